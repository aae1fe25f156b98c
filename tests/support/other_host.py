"""Web servers of strangers, on this machine: they answer as they are told and remember who came."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


class OtherHost:
    """One server.

    Args:
        answers: By path.
        address: Where it listens.
        scheme: "http" or "https".
    """

    def __init__(self, answers: dict[str, Answer], address: str, scheme: str) -> None:
        self.answers = answers
        self.address = address
        self.scheme = scheme
        self.port = 0
        # Path and `Host` header of each request that came, and the bodies of those with one.
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[bytes] = []
        # The names that clients asked for in TLS.
        self.names: list[str | None] = []

    def url(self, path: str, *, host: str | None = None) -> str:
        """An address of this server, under another host's name if one is given."""
        return f"{self.scheme}://{host or self.address}:{self.port}{path}"


@contextmanager
def other_host(
    answers: dict[str, Answer], *, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[OtherHost]:
    """Serves until it is left.

    Args:
        answers: What to do by path; other paths are 404.
        address: Where to listen.
        tls: Speaks TLS with this certificate.
    """
    host = OtherHost(answers, address, "http" if tls is None else "https")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host.requests.append((self.path, self.headers["host"]))
            length = int(self.headers.get("content-length", "0"))
            if length:
                host.bodies.append(self.rfile.read(length))
            answer = host.answers.get(self.path.partition("?")[0])
            if answer is None:
                self.send_error(404)
            else:
                answer(self)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((address, 0), Handler)
    server.daemon_threads = True
    host.port = server.server_address[1]
    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: host.names.append(name)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def sends(content: bytes, content_type: str = "image/png", **headers: str) -> Answer:
    """An answer with a body; an empty header is left out."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", content_type)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"content-length": str(len(content)), **named}.items():
            if value:
                handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def redirects(location: str) -> Answer:
    """An answer that sends the client elsewhere."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("location", location)
        handler.send_header("content-length", "0")
        handler.end_headers()

    return answer
