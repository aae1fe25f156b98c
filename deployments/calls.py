"""Calls between deployments, with the types that Serve's handles leave open."""

from collections.abc import AsyncGenerator
from typing import Any

from ray.serve.handle import (
    DeploymentHandle,
    DeploymentResponse,
    DeploymentResponseGenerator,
)

Handle = DeploymentHandle[Any]
Answer = DeploymentResponse[Any]


def ask(method: Handle, *args: object) -> Answer:
    """Calls a method that answers once; the answer may be awaited or passed on by reference."""
    answer = method.remote(*args)
    assert isinstance(answer, DeploymentResponse)
    return answer


async def stream(method: Handle, *args: object) -> AsyncGenerator[Any, None]:
    """Calls a method that yields; a reader that leaves cancels the work behind it."""
    items = method.options(stream=True).remote(*args)
    assert isinstance(items, DeploymentResponseGenerator)
    try:
        async for item in items:
            yield item
    finally:
        # Does nothing to a stream that has ended.
        items.cancel()  # type: ignore[no-untyped-call]
