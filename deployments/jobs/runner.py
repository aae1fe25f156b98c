"""Claims waiting jobs, a few at once, and holds them while `deployments.jobs.driver` works."""

import asyncio
import time
from collections.abc import Collection
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from cluster.logs import get_logger
from deployments.errors import LeaseLostError
from deployments.jobs.claims import Claim, Claims
from deployments.jobs.driver import JobDriver
from deployments.jobs.metrics import JobMetrics
from deployments.pipeline_client import PipelineClient

logger = get_logger(__name__)

# How soon a job that another gateway took in is seen, and how soon a cancelled one stops.
_LOOK_S = 1.0
_RENEWALS_PER_LEASE = 4


class JobRunner:
    """A loop that claims jobs, and a task for each job that it holds.

    Args:
        claims: Those that this gateway works on.
        driver: Does the work.
        pipeline: Nothing is claimed before it is there.
        metrics: Told of jobs that end while nobody works on them.
        max_in_progress: Jobs handed to the pipeline at once, over all gateways, until
            `set_max_in_progress`.
        lease_s: How long a claim lasts; it is renewed four times as often.
        max_queue_s: A job that waits and is older fails.
    """

    def __init__(
        self,
        claims: Claims,
        driver: JobDriver,
        pipeline: PipelineClient,
        metrics: JobMetrics,
        *,
        max_in_progress: int,
        lease_s: float,
        max_queue_s: float,
    ) -> None:
        self._claims = claims
        self._driver = driver
        self._pipeline = pipeline
        self._metrics = metrics
        self._max_in_progress = max_in_progress
        self._lease_s = lease_s
        self._max_queue_s = max_queue_s
        self._renewed_s = float("-inf")
        self._recovers_at_s = float("-inf")
        self._tasks: dict[Claim, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._draining = False
        self._over = False
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to claim jobs."""
        self._loop = asyncio.create_task(self._work(), name="claims")

    @property
    def max_in_progress(self) -> int:
        """Jobs handed to the pipeline at once, over all gateways."""
        return self._max_in_progress

    def set_max_in_progress(self, max_in_progress: int) -> None:
        """Changes how many jobs the pipeline gets at once; those that it has stay there."""
        grows = max_in_progress > self._max_in_progress
        self._max_in_progress = max_in_progress
        if grows:
            self.wake()

    def wake(self) -> None:
        """Looks for waiting jobs now, not only at the next turn."""
        self._woken.set()

    async def finished(self, job_id: str, *, timeout_s: float) -> None:
        """Returns when a job of this gateway has ended, or after a time."""
        if tasks := self._tasks_of(job_id):
            await asyncio.wait(tasks, timeout=timeout_s)
        else:
            await asyncio.sleep(timeout_s)

    async def drop(self, job_id: str) -> None:
        """Stops work on a job that was ended from outside, if it is done here."""
        await _stop(self._tasks_of(job_id))

    async def drain(self, timeout_s: float) -> None:
        """Claims no more jobs and finishes the running ones; again is at once.

        Args:
            timeout_s: Jobs that run longer go back into the queue.
        """
        if not self._draining:
            logger.info("drain_started", running=len(self._tasks))
        self._draining = True
        async with self._claiming:
            pass  # what is being claimed now has its task afterwards
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=timeout_s)
        left = list(self._tasks)
        await _stop(self._tasks.values())
        for claim in left:
            logger.warning("job_requeued", job_id=claim.job_id)
            await self._release(claim)
        if not self._over:
            logger.info("drain_ended", requeued=len(left))
        self._over = True
        if self._loop is not None:
            await _stop({self._loop})

    async def _work(self) -> None:
        await self._pipeline.deployed()
        # A flag beside the cancellation, which wait_for loses (before 3.12) when both come at once.
        while not self._over:
            self._woken.clear()  # before: a job that comes meanwhile is looked for again at once
            try:
                await self._look()
            except SQLAlchemyError:
                logger.exception("database_unavailable")
                # What kept this gateway from renewing kept the others: they get the time to.
                self._recovers_at_s = time.monotonic() + self._lease_s
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _LOOK_S)

    async def _look(self) -> None:
        await self._stop_lost()
        if time.monotonic() - self._renewed_s >= self._lease_s / _RENEWALS_PER_LEASE:
            await asyncio.to_thread(self._claims.renew, list(self._tasks))
            self._renewed_s = time.monotonic()
            if not self._draining:
                await self._recover()
        async with self._claiming:
            await self._claim()

    async def _claim(self) -> None:
        if not self._draining:
            for claim in await asyncio.to_thread(self._claims.claim, self._max_in_progress):
                self._spawn(claim)

    async def _stop_lost(self) -> None:
        if not self._tasks:
            return
        before = set(self._tasks)
        lost = before - await asyncio.to_thread(self._claims.still_held, before)
        await _stop([self._tasks[claim] for claim in lost if claim in self._tasks])

    async def _recover(self) -> None:
        if time.monotonic() >= self._recovers_at_s:
            await self._close("interrupted", await asyncio.to_thread(self._claims.recover))
        expired = await asyncio.to_thread(self._claims.expire, self._max_queue_s)
        await self._close("expired", expired)

    async def _close(self, code: str, job_ids: Collection[str]) -> None:
        for job_id in job_ids:
            logger.error("job_failed", job_id=job_id, code=code)
            await self._driver.drop_work(job_id)
            await self._metrics.end(job_id)

    def _spawn(self, claim: Claim) -> None:
        task = asyncio.create_task(self._driver.run(claim), name=claim.job_id)
        self._tasks[claim] = task
        task.add_done_callback(lambda _: self._forget(claim))

    def _forget(self, claim: Claim) -> None:
        self._tasks.pop(claim, None)
        self.wake()

    def _tasks_of(self, job_id: str) -> list[asyncio.Task[None]]:
        return [task for claim, task in self._tasks.items() if claim.job_id == job_id]

    async def _release(self, claim: Claim) -> None:
        with suppress(LeaseLostError):  # it ended before it was told to
            await asyncio.to_thread(self._claims.release, claim)


async def _stop(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
