"""What HAProxy lets through to Serve's place, and whom it drops; the backend here is uvicorn."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from deployments.front.haproxy import Front, FrontError
from deployments.front.settings import FrontMode, FrontSettings
from deployments.listeners import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Ray brings HAProxy for Linux only")

HOST = "127.0.0.1"
STRICT = FrontSettings(head_timeout_s=1, client_timeout_s=1, max_connections_per_client=4)
HEAD = b"GET /hello HTTP/1.1\r\nHost: x\r\n"


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


async def late(_: Request) -> Response:
    """Longer than a client may be idle, as the wait for a video is."""
    await asyncio.sleep(2.5)
    return PlainTextResponse("late")


async def events(_: Request) -> Response:
    async def beats() -> AsyncIterator[bytes]:
        yield b"one\n"
        await asyncio.sleep(1.5)
        yield b"two\n"

    return StreamingResponse(beats())


async def endless(_: Request) -> Response:
    async def much() -> AsyncIterator[bytes]:
        while True:
            yield bytes(2**20)
            await asyncio.sleep(0)

    return StreamingResponse(much())


async def refuse(_: Request) -> Response:
    """Before the body is read, as the gateway does with one that is too long."""
    return PlainTextResponse("too much", 413, headers={"connection": "close"})


@pytest.fixture(scope="module")
def backend() -> Iterator[int]:
    """A port at which a real HTTP server listens."""
    routes = [Route(f"/{f.__name__}", f) for f in (hello, late, events, endless)]
    app = Starlette(routes=[*routes, Route("/refuse", refuse, methods=["POST"])])
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, host=HOST, port=port, log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield port
    server.should_exit = True
    thread.join()


@pytest.fixture
def port(backend: int, tmp_path: Path) -> Iterator[int]:
    """A port behind which the backend stands, with bounds of a second."""
    port = free_port()
    front = Front(STRICT, host=HOST, port=port, inner_port=backend, folder=tmp_path)
    yield port
    front.check()
    front.stop()


def closed_within(client: socket.socket, seconds: float) -> bytes:
    """Reads until the other side closes; fails if it does not in time."""
    client.settimeout(seconds)
    said = b""
    try:
        while chunk := client.recv(65536):
            said += chunk
    except ConnectionResetError:
        pass
    return said


def test_requests_pass(port: int) -> None:
    assert httpx.get(f"http://{HOST}:{port}/hello").text == "hello"


def test_a_head_that_drips_is_dropped(port: int) -> None:
    with socket.create_connection((HOST, port)) as client:
        client.sendall(HEAD)
        for _ in range(3):
            time.sleep(0.3)
            client.sendall(b"X-Drip: 1\r\n")
        assert closed_within(client, 3).startswith(b"HTTP/1.1 408")


def test_a_reader_that_stops_is_dropped(port: int) -> None:
    with socket.create_connection((HOST, port)) as client:
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(3)
        # What lay in the buffers comes, and then the end of an endless answer.
        assert len(closed_within(client, 5)) < 2**27


def test_a_body_that_was_refused_ends_its_connection(port: int) -> None:
    head = b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
    with socket.create_connection((HOST, port)) as client:
        client.sendall(head)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(200):
                client.sendall(bytes(2**20))
                time.sleep(0.01)


def test_waiting_for_an_answer_is_not_being_idle(port: int) -> None:
    assert httpx.get(f"http://{HOST}:{port}/late", timeout=10).text == "late"


def test_streams_come_as_they_are_sent(port: int) -> None:
    with httpx.stream("GET", f"http://{HOST}:{port}/events", timeout=10) as answer:
        begin_s, pieces = time.monotonic(), []
        for piece in answer.iter_raw():
            pieces.append((piece, time.monotonic() - begin_s))
    assert [piece for piece, _ in pieces] == [b"one\n", b"two\n"]
    assert pieces[0][1] < 1 < pieces[1][1]


def test_a_client_has_so_many_connections_and_no_more(port: int) -> None:
    clients = [socket.create_connection((HOST, port)) for _ in range(8)]
    served = 0
    for client in clients:  # all are open meanwhile
        with suppress(ConnectionResetError):
            client.sendall(HEAD + b"\r\n")
            served += client.recv(15) == b"HTTP/1.1 200 OK"
    for client in clients:
        client.close()
    assert served == STRICT.max_connections_per_client


def test_it_ends_with_the_process_that_started_it(backend: int, tmp_path: Path) -> None:
    port = free_port()
    code = (
        "import sys; from pathlib import Path\n"
        "from deployments.front.haproxy import Front\n"
        "from deployments.front.settings import FrontSettings\n"
        f"Front(FrontSettings(), host='{HOST}', port={port}, inner_port={backend},"
        f" folder=Path({str(tmp_path)!r}))\n"
        "print('up', flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None and parent.stdout.readline() == b"up\n"
    assert httpx.get(f"http://{HOST}:{port}/hello").status_code == 200
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline_s = time.monotonic() + 60
    with pytest.raises(httpx.ConnectError):
        while time.monotonic() < deadline_s:
            with suppress(httpx.ReadError, httpx.RemoteProtocolError):  # it ends while it answers
                httpx.get(f"http://{HOST}:{port}/hello")
            time.sleep(0.05)


def test_its_last_words_are_told(tmp_path: Path, backend: int) -> None:
    with pytest.raises(FrontError, match=r"(?s)ended with 1: .*bind"):
        Front(STRICT, host=HOST, port=backend, inner_port=free_port(), folder=tmp_path)


@pytest.mark.parametrize(
    ("mode", "host", "stands"),
    [
        ("auto", "127.0.0.1", False),
        ("auto", "localhost", False),
        ("auto", "0.0.0.0", True),
        ("auto", "::", True),
        ("on", "127.0.0.1", True),
        ("off", "0.0.0.0", False),
    ],
)
def test_it_stands_where_other_machines_can_come(mode: str, host: str, stands: bool) -> None:
    assert FrontSettings(mode=FrontMode(mode)).stands_before(host) is stands
