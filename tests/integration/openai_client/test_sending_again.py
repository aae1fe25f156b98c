"""What the stock OpenAI client sends twice makes one video."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from openai import OpenAI

from deployments.listeners import free_port
from tests.support.openai_client import FIRST_FRAME, PROMPT, client_of, make
from tests.support.server import Server

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


def test_a_key_makes_one_video(client: OpenAI) -> None:
    headers = {"Idempotency-Key": f"one-{time.time_ns()}"}
    first, second = make(client, headers=headers), make(client, headers=headers)
    raw = client.videos.with_raw_response.create(
        prompt=PROMPT, input_reference=FIRST_FRAME, extra_headers=headers
    )
    client.videos.delete(first.id)
    assert first.id == second.id == raw.parse().id
    assert raw.headers["idempotency-replayed"] == "true"


def test_a_hundred_posts_of_one_key_make_one_video(client: OpenAI) -> None:
    headers = {"Idempotency-Key": f"storm-{time.time_ns()}"}
    with ThreadPoolExecutor(50) as pool:
        posts = [pool.submit(make, client, headers=headers) for _ in range(100)]
        ids = {post.result().id for post in posts}
    assert len(ids) == 1
    client.videos.delete(ids.pop())


def test_a_retry_that_the_client_marks_finds_its_video(client: OpenAI) -> None:
    seed = time.time_ns()
    first = make(client, seed=seed)
    retried = make(client, seed=seed, headers={"x-stainless-retry-count": "1"})
    again = make(client, seed=seed)
    for video_id in {first.id, again.id}:
        client.videos.delete(video_id)
    assert (first.id == retried.id, first.id == again.id) == (True, False)


def test_the_clients_own_retry_after_a_broken_connection(server: Server) -> None:
    """A proxy that swallows the first answer: the request arrived, and is sent once more."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as listener, ThreadPoolExecutor(1) as pool:
        relayed = pool.submit(_swallow_first_answer, listener, server.url)
        url = f"http://127.0.0.1:{port}/v1"
        with OpenAI(api_key="none", base_url=url, max_retries=2) as client:
            created = make(client, seed=time.time_ns())
        assert relayed.result(timeout=30) == created.id
    client_of(server).videos.delete(created.id)


def _swallow_first_answer(listener: socket.socket, url: str) -> str:
    """Passes two requests on, and answers only the second; returns the first one's video."""
    ids = []
    for swallow in (True, False):
        connection, _ = listener.accept()
        with connection:
            head, body = _read_request(connection)
            names = ("content-type", "x-stainless-retry-count")
            headers = {name: head[name] for name in names if name in head}
            answer = httpx.post(f"{url}/v1/videos", content=body, headers=headers)
            ids.append(answer.json()["id"])
            if not swallow:
                lines = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
                connection.sendall(
                    f"{lines}{len(answer.content)}\r\n\r\n".encode() + answer.content
                )
    return str(ids[0])


def _read_request(connection: socket.socket) -> tuple[dict[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
    if "content-length" in headers:
        while len(body) < int(headers["content-length"]):
            body += connection.recv(65536)
        return {**headers, "content-type": _header(head, "content-type")}, body
    raise AssertionError("the client sends a length")


def _header(head: bytes, name: str) -> str:
    lines = head.decode().split("\r\n")
    return next(line.split(": ", 1)[1] for line in lines if line.lower().startswith(f"{name}:"))
