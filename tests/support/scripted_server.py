"""A server on this machine that answers as it is told, breaks off as it is told, and remembers."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Reply:
    """One answer.

    Args:
        body: What it says.
        status: Of HTTP; 0 closes the connection without a word.
        headers: Beside its length.
        cut: The connection breaks after so many bytes of the body; None sends it whole.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    line: str
    headers: Mapping[str, str]
    body: bytes


class ScriptedServer(ThreadingHTTPServer):
    """Answers each request with the next reply of a list, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[Reply] = []
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def lines(self) -> list[str]:
        """Method and path of every request so far."""
        return [asked.line for asked in self.asked]

    def will_answer(self, body: object, status: int = 200, **headers: str) -> None:
        """The next reply is this JSON; underscores in names of headers stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.replies.append(Reply(json.dumps(body).encode(), status, named))

    def will_send(self, body: bytes, *, cut: int | None = None, **headers: str) -> None:
        """The next reply has these bytes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        status = 206 if "content-range" in named else 200
        self.replies.append(Reply(body, status, named, cut))

    def will_stream(self, *events: tuple[str, str, object], cut: bool = False) -> None:
        """The next reply is a stream of events: their kind, id and data."""
        text = "".join(
            f"event: {kind}\nid: {name}\ndata: {json.dumps(data)}\n\n"
            for kind, name, data in events
        )
        body = f": heartbeat\n\n{text}".encode()
        headers = {"content-type": "text/event-stream"}
        # One byte more is announced than comes, where it is to break.
        self.replies.append(Reply(body + b"\n" * cut, 200, headers, cut=len(body) if cut else None))

    def will_hang_up(self) -> None:
        """The next connection ends without a word."""
        self.replies.append(Reply(status=0))


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append(Asked(f"{self.command} {self.path}", headers, body))
        reply = self.server.replies.pop(0)
        self.close_connection = True
        if not reply.status:
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body[: reply.cut])

    do_GET = do_POST = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        """Keeps the tests' output clean."""


@contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    """Serves until it is left, by when every reply must have been fetched."""
    with ScriptedServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
    assert server.replies == []


def video(**fields: object) -> dict[str, object]:
    """A body that describes a video, with fields laid over it."""
    return {"id": "video_1", "object": "video", "status": "queued", "later_field": 1} | fields
