"""The door for new jobs: bounded, and closed while the gateway drains."""

import asyncio
from collections.abc import Callable

from sqlalchemy.exc import IntegrityError

from cluster.logs import get_logger
from deployments.artifacts.store import ArtifactStore
from deployments.errors import (
    DrainingError,
    QueueFullError,
    QuotaExceededError,
    RepeatedError,
)
from deployments.jobs.forecast import Forecast
from deployments.jobs.store import JobStore
from deployments.jobs.tables import Job
from deployments.keys.charge import Charge
from deployments.messages import GenerateRequest

logger = get_logger(__name__)

# Named by both databases where the unique index over owners' keys refuses a row.
_KEY_COLUMN = "idempotency"


class Intake:
    """Writes new jobs, inputs first, so that whatever is in the database can be run.

    Args:
        store: Where jobs are written.
        artifacts: Where their inputs go.
        forecast: Foresees their wait.
        max_jobs: Says how many jobs may wait or run, over all gateways.
        on_new: Called after a job was written.
    """

    def __init__(
        self,
        store: JobStore,
        artifacts: ArtifactStore,
        forecast: Forecast,
        *,
        max_jobs: Callable[[], int],
        on_new: Callable[[], None],
    ) -> None:
        self._store = store
        self._artifacts = artifacts
        self._forecast = forecast
        self._max_jobs = max_jobs
        self._on_new = on_new
        self._closed = False

    def close(self) -> None:
        """Takes no more jobs."""
        self._closed = True

    async def check_open(self) -> None:
        """Raises unless one more job may come.

        Raises:
            DrainingError: The gateway is about to stop.
            QueueFullError: As many jobs wait as may.
        """
        if self._closed:
            raise DrainingError("the server is about to stop; send the request again later")
        # Early, before anything is read or stored; decided where the job is written.
        if await asyncio.to_thread(self._store.num_unfinished) >= self._max_jobs():
            raise await asyncio.to_thread(self._queue_full)

    async def submit(self, job: Job, request: GenerateRequest, charge: Charge) -> None:
        """Writes a job.

        Args:
            job: The job.
            request: Its inputs.
            charge: What it takes from its key's quotas.

        Raises:
            QuotaExceededError: One of them is used up.
            DrainingError: The gateway is about to stop.
            QueueFullError: As many jobs wait as may, or it would wait too long.
            RepeatedError: There is a job of this owner and idempotency key.
        """
        await self.check_open()
        await asyncio.to_thread(self._forecast.admit, job)
        # Shielded: a client that leaves now must not leave inputs without a job.
        await asyncio.shield(asyncio.ensure_future(self._write(job, request, charge)))
        self._on_new()

    async def _write(self, job: Job, request: GenerateRequest, charge: Charge) -> None:
        await asyncio.to_thread(self._artifacts.write_request, request)
        await asyncio.to_thread(self._add, job, charge)
        logger.info("job_accepted", **job.size)

    def _add(self, job: Job, charge: Charge) -> None:
        try:
            self._store.add(job, charge, max_unfinished=self._max_jobs())
        except QuotaExceededError:
            self._artifacts.delete(job.id)
            raise
        except QueueFullError as error:  # decided under the lock, over all gateways
            self._artifacts.delete(job.id)
            raise self._queue_full() from error
        except IntegrityError as error:  # decided by the index, over all gateways
            self._artifacts.delete(job.id)
            if _KEY_COLUMN not in str(error.orig):
                raise
            raise RepeatedError(f"{job.id} was asked for before") from error

    def _queue_full(self) -> QueueFullError:
        return QueueFullError(
            "too many videos wait; send the request again later",
            retry_after_s=self._forecast.frees_up_in_s(),
        )
