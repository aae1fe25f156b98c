"""Nothing is awaited for ever: bounds on the answers of stages.

`asyncio.wait_for` is not used, as before Python 3.12 it can lose a cancellation that comes with the
timeout.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

from deployments.errors import StageTimeoutError

T = TypeVar("T")

_END: Any = object()


async def within(answer: Awaitable[T], timeout_s: float, stage: str) -> T:
    """Awaits an answer for so long.

    Args:
        answer: Cancelled when it comes too late.
        timeout_s: How long.
        stage: Whose answer.

    Raises:
        StageTimeoutError: It did not come in time.
    """
    waiting = asyncio.ensure_future(answer)
    try:
        await asyncio.wait({waiting}, timeout=timeout_s)
        if waiting.done():
            return waiting.result()
    finally:
        if not waiting.done():
            waiting.cancel()
            await asyncio.wait({waiting})
    raise StageTimeoutError(stage, f"did not answer within {timeout_s:g} s")


async def paced(
    items: AsyncGenerator[T, None], timeout_s: Callable[[int], float], stage: str
) -> AsyncGenerator[T, None]:
    """Yields items that each come in time after the one before.

    Args:
        items: Closed at the end.
        timeout_s: How long the next item may take, given how many there were.
        stage: Whose items.

    Raises:
        StageTimeoutError: One did not come in time.
    """
    num_items, end = 0, _END
    try:
        while (item := await within(anext(items, end), timeout_s(num_items), stage)) is not end:
            yield item
            num_items += 1
    finally:
        await items.aclose()
