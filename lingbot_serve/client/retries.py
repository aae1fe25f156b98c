"""Whether a call that went wrong is made again, and when: pure, and the same for both clients."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime

import httpx

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to bear with a server.

    Args:
        max_retries: Of one call.
        max_outage_retries: In a row, of what lasts as long as a job: waiting, events, downloads.
            Anything that arrives starts the count anew; these last about two minutes.
        first_delay_s: Before the first retry; each later one waits twice as long.
        max_delay_s: Longest wait of our own choice.
        max_asked_s: Longest wait that the server may ask for; beyond it the error is the caller's.
    """

    max_retries: int = 3
    max_outage_retries: int = 18
    first_delay_s: float = 0.5
    max_delay_s: float = 8.0
    max_asked_s: float = 60.0

    @property
    def patient(self) -> "RetryPolicy":
        """The same for what lasts as long as a job."""
        return replace(self, max_retries=max(self.max_retries, self.max_outage_retries))

    def delay_s(
        self, attempt: int, outcome: httpx.Response | httpx.TransportError, *, jitter: float
    ) -> float | None:
        """Seconds until the next attempt, or None where there is none.

        Args:
            attempt: Attempts that were retried already.
            outcome: What came of this one.
            jitter: Random, 0 to 1, so that many clients do not come back at once.
        """
        if attempt >= self.max_retries or not _may_pass(outcome):
            return None
        asked_s = retry_after_s(outcome.headers) if isinstance(outcome, httpx.Response) else None
        if asked_s is None:
            return self.backoff_s(attempt, jitter=jitter)
        # Never earlier than asked.
        return None if asked_s > self.max_asked_s else asked_s * (1 + jitter / 4)

    def backoff_s(self, attempt: int, *, jitter: float) -> float:
        """A wait of our own choice: between half and all of what doubles with each attempt."""
        longest_s = min(self.first_delay_s * 2.0**attempt, self.max_delay_s)
        return longest_s * (1 + jitter) / 2


DEFAULT_RETRIES = RetryPolicy()


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """What a server asks for, in seconds: `retry-after-ms`, or `retry-after` as number or date."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        if "retry-after" not in headers:
            return None
        value = headers["retry-after"]
        if value.replace(".", "", 1).isdecimal():
            return float(value)
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _may_pass(outcome: httpx.Response | httpx.TransportError) -> bool:
    if not isinstance(outcome, httpx.Response):
        return not isinstance(outcome, (httpx.UnsupportedProtocol, httpx.LocalProtocolError))
    wish: str = outcome.headers.get("x-should-retry", "").lower()
    if wish in ("true", "false"):
        return wish == "true"
    # A conflict is a state of the video, unless the server says that it will pass: the first of
    # two equal requests is still being read.
    if outcome.status_code == 409:
        return retry_after_s(outcome.headers) is not None
    return outcome.status_code in _PASSING
