"""How often a key may ask: counted by each gateway for itself, in its memory."""

import math
import time
from collections.abc import MutableMapping
from dataclasses import dataclass

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.errors import QuotaExceededError

_STATE = "request_rate"


@dataclass(frozen=True, slots=True)
class RequestRate:
    """Where a key stands after a request.

    Args:
        limit: Requests per minute.
        remaining: Those left at this moment.
        reset_s: Seconds until all are there again.
    """

    limit: int
    remaining: int
    reset_s: int

    def write(self, headers: MutableHeaders) -> None:
        """Says so under the names that clients of OpenAI's API read."""
        headers["x-ratelimit-limit-requests"] = str(self.limit)
        headers["x-ratelimit-remaining-requests"] = str(self.remaining)
        headers["x-ratelimit-reset-requests"] = f"{self.reset_s}s"


class RequestRates:
    """Counts requests by key: two numbers for each key that asked in the last two minutes."""

    def __init__(self) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def take(
        self, state: MutableMapping[str, object], key_id: str, limit: int | None
    ) -> None:
        """Counts one request and leaves where the key stands for `RateHeaders`.

        Args:
            state: Of the request.
            key_id: Whose request it is.
            limit: Requests per minute; None counts nothing.

        Raises:
            QuotaExceededError: It is one too many.
        """
        if limit is None:
            return
        item = RateLimitItemPerMinute(limit)
        allowed = await self._limiter.hit(item, key_id)
        window = await self._limiter.get_window_stats(item, key_id)
        reset_s = max(1, math.ceil(window.reset_time - time.time()))
        state[_STATE] = RequestRate(limit, window.remaining, reset_s)
        if not allowed:
            raise QuotaExceededError(
                f"this API key may send {limit} requests a minute", retry_after_s=reset_s
            )


class RateHeaders:
    """ASGI middleware: every reply to a key with a limited rate says where the key stands."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.setdefault("state", {})

        async def send_with_rate(message: Message) -> None:
            rate = state.get(_STATE)
            if message["type"] == "http.response.start" and rate is not None:
                rate.write(MutableHeaders(scope=message))
            await send(message)

        await self._app(scope, receive, send_with_rate)
