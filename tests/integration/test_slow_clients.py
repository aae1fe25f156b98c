"""Clients that are slow on purpose, on real sockets through Serve's own HTTP server."""

import json
import socket
from urllib.parse import urlsplit

from tests.support.server import Server, body

HEAD = (
    "POST /v1/videos HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
    "Content-Length: {length}\r\n\r\n"
)


def connect(server: Server) -> socket.socket:
    address = urlsplit(server.url)
    assert address.hostname is not None and address.port is not None
    return socket.create_connection((address.hostname, address.port), timeout=60)


def read_to_end(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    received = b""
    while chunk := connection.recv(2**16):
        received += chunk
    return received


def test_a_body_that_drips_is_cut_and_its_connection_closed(server: Server) -> None:
    content = json.dumps(body()).encode()
    with connect(server) as slow, server.client() as client:
        slow.sendall(HEAD.format(length=len(content)).encode() + content[:10])
        assert client.get("/healthz").status_code == 200  # nobody else waits for it
        answer = read_to_end(slow)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body_too_slow" in answer


def test_a_body_that_never_ends_is_cut_at_its_limit(server: Server) -> None:
    limit = server.config.gateway.limits.max_body_bytes
    head = HEAD.replace("Content-Length: {length}", "Transfer-Encoding: chunked")
    chunk = b"10000\r\n" + b" " * 2**16 + b"\r\n"
    with connect(server) as endless:
        endless.sendall(head.encode())
        sent = 0
        try:
            while sent < 64 * limit:
                endless.sendall(chunk)
                sent += 2**16
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert sent < 64 * limit
