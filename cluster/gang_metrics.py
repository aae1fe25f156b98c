"""What a gang's owner reports of it."""

import time
from collections.abc import Callable

from cluster.errors import GangError
from cluster.health import Phase
from cluster.job import Job
from cluster.metrics import clear_gauge, count, declare, observe, set_gauge
from model.errors import DenoiseCancelled, LingBotError
from monitoring import gangs


class GangMetrics:
    """One gang's metrics; one gang per process.

    Args:
        name: Asked each time, since Serve may number its replicas anew; a number below the most
            gangs that there can be.
        num_ranks: Its size.
    """

    def __init__(self, name: Callable[[], str], num_ranks: int) -> None:
        self._name = name
        self._num_ranks = num_ranks
        self._cause = ""
        self._phase, self._since_s = Phase.STARTING, time.monotonic()
        declare(gangs.GPU_SECONDS)
        declare(gangs.GANG_RESTARTS, gang=name())
        declare(gangs.GANG_HEAL_SECONDS, gang=name())
        self.enter(Phase.STARTING)

    def enter(self, phase: Phase) -> None:
        """The gang is in another phase now; one that becomes idle has started or healed."""
        now_s = time.monotonic()
        if phase is Phase.IDLE and self._phase is Phase.STARTING:
            set_gauge(gangs.GANG_START_SECONDS, now_s - self._since_s, gang=self._name())
        if phase is Phase.IDLE and self._phase is Phase.HEALING:
            labels = {"gang": self._name(), "cause": self._cause}
            count(gangs.GANG_HEAL_SECONDS, now_s - self._since_s, **labels)
        self._phase, self._since_s = phase, now_s
        # An old name must not stay behind.
        clear_gauge(gangs.GANG_STATE)
        for state in Phase:
            value = float(state is phase)
            set_gauge(gangs.GANG_STATE, value, gang=self._name(), state=state.value)

    def lose(self, cause: GangError) -> None:
        """The ranks are lost; `enter(Phase.HEALING)` follows."""
        self._cause = cause.code
        count(gangs.GANG_RESTARTS, gang=self._name(), cause=self._cause)

    def queue(self, num_jobs: int) -> None:
        """So many jobs wait beside the gang now."""
        clear_gauge(gangs.GANG_QUEUED_JOBS)
        set_gauge(gangs.GANG_QUEUED_JOBS, num_jobs, gang=self._name())

    def begin(self, job: Job) -> None:
        """A job has left the queue; its ranks will report under the gang's name."""
        job.gang = self._name()
        observe(gangs.GANG_WAIT_SECONDS, time.monotonic() - job.arrived_s)

    def end(self, job: Job, error: LingBotError | None) -> None:
        """The running job is over; the gang is still in the phase that it ran in."""
        now_s = time.monotonic()
        cancelled = isinstance(error, DenoiseCancelled)
        outcome = "cancelled" if cancelled else "completed" if error is None else "failed"
        count(gangs.GPU_SECONDS, (now_s - self._since_s) * self._num_ranks, outcome=outcome)
        if cancelled and job.cancelled_s is not None:
            observe(gangs.CANCEL_SECONDS, now_s - job.cancelled_s)
