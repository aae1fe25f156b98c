"""Addresses of this machine's own listeners."""

import socket


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def own_address(host: str) -> str:
    """Where this machine reaches a listener of its own.

    Args:
        host: The address that it listens at; `0.0.0.0` and `::` stand for all.
    """
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def own_url(host: str, port: int) -> str:
    """The same as a URL."""
    address = own_address(host)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
