"""What happens between a call and its result, written once for both clients.

A flow is a generator that sends and sleeps nothing itself: it yields what to do, and is sent what
came of it, as httpx's own authentication flows are.
"""

import itertools
import random
from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import httpx

from lingbot_serve.client.replies import answer
from lingbot_serve.client.retries import RetryPolicy

T = TypeVar("T")


class Sink(Protocol):
    """Takes a reply's body as it comes."""

    def begin(self, response: httpx.Response) -> None:
        """Before the first byte, of a reply that is no error."""

    def write(self, chunk: bytes) -> None:
        """The next bytes."""

    def close(self) -> None:
        """After the last byte, or once there will be none."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request; `stream` leaves the body of a reply that is no error to be read."""

    request: httpx.Request
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Receive:
    """Send a request, and hand the body of a reply that is no error to a sink."""

    request: httpx.Request
    sink: Sink


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for some seconds."""

    seconds: float


Action = Send | Receive | Pause
Outcome = httpx.Response | httpx.TransportError | None  # None of a pause
Flow = Generator[Action, Outcome, T]


def call(
    request: httpx.Request, retries: RetryPolicy, *, stream: bool = False
) -> Flow[httpx.Response]:
    """Sends a request, again where that may help, and returns the reply.

    Raises:
        ApiError: The server refused.
        ServerUnreachableError: It did not answer.
    """
    for attempt in itertools.count():
        outcome = yield Send(request, stream)
        assert outcome is not None
        delay_s = retries.delay_s(attempt, outcome, jitter=random.random())
        if delay_s is None:
            return answer(outcome)
        yield Pause(delay_s)
    raise AssertionError("the loop has no end")
