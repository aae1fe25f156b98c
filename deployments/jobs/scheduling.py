"""Settings of the queue."""

from pydantic import Field

from deployments.settings import Settings


class SchedulingConfig(Settings):
    """Which jobs are taken into the queue.

    Args:
        max_wait_s: Predicted wait above which a new job is told to come back; None: jobs wait as
            long as it takes. Counts the gangs that run, not those that scaling may add.
    """

    max_wait_s: float | None = Field(default=None, gt=0)
