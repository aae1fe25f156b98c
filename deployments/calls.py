"""Calls between deployments: their types, which Serve's handles leave open, and their errors."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

from ray.exceptions import OutOfMemoryError, RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import (
    DeploymentHandle,
    DeploymentResponse,
    DeploymentResponseGenerator,
)

from deployments.errors import StageDiedError, StageOutOfMemoryError

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


@contextmanager
def blame(stage: str) -> Iterator[None]:
    """Gives what Ray says of a lost process or object the name of the stage.

    Args:
        stage: Whose answer is awaited within.

    Raises:
        StageDiedError: Its process is gone, or what it had made.
        StageOutOfMemoryError: Ray ended it to save the node's memory.
    """
    try:
        yield
    except (RayTaskError, TaskCancelledError):
        raise  # raised by the stage itself, or by whoever left
    except OutOfMemoryError as error:
        raise StageOutOfMemoryError(stage, "was ended as its node ran out of memory") from error
    except (RayError, DeploymentUnavailableError, ReplicaUnavailableError) as error:
        raise StageDiedError(stage, f"was lost ({type(error).__name__})") from error


def root_cause(error: BaseException) -> BaseException:
    """What was raised in the process where it happened, out of Ray's wrappings."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    return error
