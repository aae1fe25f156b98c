"""What can be said of jobs that are not over: place in the queue and time to the end."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outlook:
    """What awaits one job.

    Args:
        queue_position: Jobs that go before it, plus one; None unless it waits.
        eta_seconds: Until it is done; None where nobody can say, or it is over.
    """

    queue_position: int | None = None
    eta_seconds: float | None = None


UNKNOWN = Outlook()
