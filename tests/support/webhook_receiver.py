"""A real receiver of webhooks on a loopback address, which answers as it is told."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Receiver:
    """What came, and what is answered.

    Args:
        url: Where it listens.
        answers: Statuses of the first requests; the last one holds for all that follow.
    """

    url: str
    answers: Sequence[int] = (200,)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def answer(self, headers: dict[str, str], body: bytes) -> int:
        """Keeps a request and says what to answer."""
        self.requests.append((headers, body))
        return self.answers[min(len(self.requests), len(self.answers)) - 1]


@contextmanager
def running_receiver(*answers: int) -> Iterator[Receiver]:
    """Starts one.

    Args:
        answers: Statuses of the first requests; the last one holds for all that follow.
    """
    receiver = Receiver("", answers or (200,))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(receiver.answer(headers, body))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield receiver
        server.shutdown()
