"""What a key lets its holder do, and how much of it."""

from dataclasses import dataclass
from enum import Enum


class Scope(str, Enum):
    """What a key is for."""

    READ = "videos:read"
    WRITE = "videos:write"
    # As both of the above, and for everybody's videos.
    ADMIN = "admin"


PRIORITIES = ("low", "normal", "high")


@dataclass(frozen=True, slots=True)
class Quotas:
    """The most that a key may ask for; None is without limit.

    Args:
        requests_per_minute: Requests of any kind, at each gateway.
        max_unfinished_jobs: Jobs that wait or run at a time, over all gateways.
        gpu_seconds_per_day: Forecast cost of the jobs accepted in one day (UTC), over all gateways.
        max_priority: The highest priority of a job.
    """

    requests_per_minute: int | None = None
    max_unfinished_jobs: int | None = None
    gpu_seconds_per_day: float | None = None
    max_priority: str = PRIORITIES[-1]


UNLIMITED = Quotas()
