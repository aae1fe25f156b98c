"""Claims waiting jobs, a few at once, and holds them while `deployments.jobs.driver` works."""

import asyncio
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from cluster.logs import get_logger
from deployments.errors import LeaseLostError
from deployments.jobs.claims import Claim, Claims
from deployments.jobs.driver import JobDriver
from deployments.jobs.metrics import JobMetrics
from deployments.loops import Loop
from deployments.pipeline_client import PipelineClient

logger = get_logger(__name__)
T = TypeVar("T")

# How soon a job that another gateway took in is seen, and how soon one that was cancelled there
# stops where the pipeline could not be told (`PipelineClient.end`): two indexed queries each time.
_LOOK_S = 1.0
_RENEWALS_PER_LEASE = 4
# Renewals, and beside them everything else about claims.
_NUM_THREADS = 2


class JobRunner:
    """A loop that claims jobs, one that renews their leases, and a task for each job that it holds.

    Both have threads of their own: those of the rest may all wait for a store that is away, and a
    lease that ends meanwhile would cost a clip.

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
        self._looked_s = float("-inf")
        self._recovers_at_s = float("-inf")
        self._tasks: dict[Claim, asyncio.Task[None]] = {}
        self._cancelled: set[Claim] = set()
        self._woken = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._draining = False
        self._over = False
        self._threads = ThreadPoolExecutor(_NUM_THREADS, "claims")
        self._loops = (
            Loop("claims", self._look_and_wait, max_backoff_s=_LOOK_S),
            Loop("leases", self._renew_and_wait, max_backoff_s=_LOOK_S),
        )

    def start(self) -> None:
        """Begins to claim jobs."""
        for loop in self._loops:
            loop.start()

    def check_health(self) -> None:
        """Raises if jobs are no longer claimed or held.

        Raises:
            LoopEndedError: A loop has ended by itself.
        """
        for loop in self._loops:
            loop.check()

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
        await self._stop([claim for claim in self._tasks if claim.job_id == job_id])

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
        await self._stop(left)
        for claim in left:
            logger.warning("job_requeued", job_id=claim.job_id)
            await self._release(claim)
        if not self._over:
            logger.info("drain_ended", requeued=len(left))
        self._over = True
        for loop in self._loops:
            await loop.stop()

    async def _look_and_wait(self) -> None:
        await self._pipeline.deployed()
        self._woken.clear()  # before: a job that comes meanwhile is looked for again at once
        try:
            await self._look()
        except SQLAlchemyError:
            self._database_failed()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._woken.wait(), _LOOK_S)

    async def _renew_and_wait(self) -> None:
        period_s = self._lease_s / _RENEWALS_PER_LEASE
        try:
            await self._in_thread(self._claims.renew, list(self._tasks))
            self._renewed_s = time.monotonic()
        except SQLAlchemyError:
            self._database_failed()
            period_s = min(period_s, _LOOK_S)
        await asyncio.sleep(period_s)

    def _database_failed(self) -> None:
        logger.exception("database_unavailable")
        # What kept this gateway from renewing kept the others: they get the time to.
        self._recovers_at_s = time.monotonic() + self._lease_s

    async def _look(self) -> None:
        await self._stop_lost()
        if not self._draining:
            await self._recover()
        async with self._claiming:
            await self._claim()

    async def _claim(self) -> None:
        if not self._draining:
            for claim in await self._in_thread(self._claims.claim, self._max_in_progress):
                self._spawn(claim)

    async def _stop_lost(self) -> None:
        if not self._tasks:
            return
        before = set(self._tasks)
        lost = before - await self._in_thread(self._claims.still_held, before)
        for claim in lost:
            self._cancel(claim)  # not awaited: it may have to wait for the store

    async def _recover(self) -> None:
        now_s, period_s = time.monotonic(), self._lease_s / _RENEWALS_PER_LEASE
        # After a pause of the whole process its own leases have to be renewed before others are
        # held against theirs.
        if now_s - self._looked_s < period_s or now_s - self._renewed_s > 2 * period_s:
            return
        self._looked_s = now_s
        if now_s >= self._recovers_at_s:
            failed = await self._in_thread(self._claims.recover, list(self._tasks))
            self._close("interrupted", failed)
        self._close("expired", await self._in_thread(self._claims.expire, self._max_queue_s))

    def _close(self, code: str, job_ids: Collection[str]) -> None:
        if job_ids:
            task = asyncio.create_task(self._clear_away(code, job_ids), name=code)
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _clear_away(self, code: str, job_ids: Collection[str]) -> None:
        for job_id in job_ids:
            logger.error("job_failed", job_id=job_id, code=code)
            await self._metrics.end(job_id)
            await self._driver.drop_work(job_id)

    def _spawn(self, claim: Claim) -> None:
        task = asyncio.create_task(self._driver.run(claim), name=claim.job_id)
        self._tasks[claim] = task
        task.add_done_callback(lambda _: self._forget(claim))

    def _forget(self, claim: Claim) -> None:
        self._tasks.pop(claim, None)
        self._cancelled.discard(claim)
        self.wake()

    async def _stop(self, claims: Collection[Claim]) -> None:
        tasks = [self._tasks[claim] for claim in claims]
        for claim in claims:
            self._cancel(claim)
        if tasks:
            await asyncio.wait(tasks)

    def _cancel(self, claim: Claim) -> None:
        """Cancels a task once: a second time would end its cleaning up."""
        if claim in self._tasks and claim not in self._cancelled:
            self._cancelled.add(claim)
            self._tasks[claim].cancel()

    def _tasks_of(self, job_id: str) -> list[asyncio.Task[None]]:
        return [task for claim, task in self._tasks.items() if claim.job_id == job_id]

    async def _release(self, claim: Claim) -> None:
        with suppress(LeaseLostError):  # it ended before it was told to
            await self._in_thread(self._claims.release, claim)

    async def _in_thread(self, call: Callable[..., T], *values: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *values)
