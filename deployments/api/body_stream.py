"""Request bodies as they come in: never more bytes than allowed, and never slower than allowed."""

import asyncio
import time

from starlette.requests import Request
from starlette.types import Message, Receive

from deployments.errors import BodyTooLargeError, BodyTooSlowError


def limited(request: Request, *, max_bytes: int, timeout_s: float) -> Request:
    """The same request, whose body raises as soon as it passes a limit.

    Args:
        request: Its body must not have been read.
        max_bytes: The longest body; a declared length that passes it is refused at once.
        timeout_s: How long all of it may take from now on.

    Raises:
        BodyTooLargeError: The body says that it is longer.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise _too_large(max_bytes)
    return Request(request.scope, _limited(request.receive, max_bytes, timeout_s))


def _limited(receive: Receive, max_bytes: int, timeout_s: float) -> Receive:
    received = 0
    deadline_s = time.monotonic() + timeout_s

    async def count() -> Message:
        nonlocal received
        left_s = max(0.0, deadline_s - time.monotonic())
        try:
            message = await asyncio.wait_for(receive(), left_s)
        except asyncio.TimeoutError as error:
            raise BodyTooSlowError(f"the request body took longer than {timeout_s:g} s") from error
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise _too_large(max_bytes)
        return message

    return count


def _too_large(max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the request body exceeds {max_bytes} bytes")
