"""Drives jobs: claims waiting ones, a few at once, and streams them through the pipeline."""

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

from sqlalchemy.exc import OperationalError, SQLAlchemyError
from structlog.contextvars import bind_contextvars

from cluster.logs import get_logger
from deployments.api.errors import job_error
from deployments.artifacts.store import ArtifactStore
from deployments.errors import JobNotFoundError, LeaseLostError
from deployments.jobs.claims import Claim, Claims
from deployments.jobs.metrics import JobMetrics
from deployments.jobs.prediction import GangClock
from deployments.jobs.store import JobStore
from deployments.messages import GenerateRequest, StageEvent, StageState, VideoResult
from deployments.pipeline_client import PipelineClient
from deployments.tracing import JobTrace, Tracing

logger = get_logger(__name__)

# How soon a job that another gateway took in is seen, and how soon a cancelled one stops.
_LOOK_S = 1.0
# Bounds what one job writes; polls are slower.
_MIN_STEP_S = 0.05


class JobRunner:
    """A loop that claims jobs, and a task for each job that it holds.

    The database is called in threads: a slow disk must not hold up the health checks.

    Args:
        store: All jobs.
        claims: Those that this gateway works on.
        artifacts: Where their files go.
        pipeline: What makes the clips.
        tracing: Where their traces go.
        metrics: Told of each job's beginning and end.
        max_in_progress: Jobs handed to the pipeline at once, over all gateways, until
            `set_max_in_progress`.
        renew_s: Time between two renewals of the leases.
    """

    def __init__(
        self,
        store: JobStore,
        claims: Claims,
        artifacts: ArtifactStore,
        pipeline: PipelineClient,
        tracing: Tracing,
        metrics: JobMetrics,
        *,
        max_in_progress: int,
        renew_s: float,
    ) -> None:
        self._store = store
        self._claims = claims
        self._artifacts = artifacts
        self._pipeline = pipeline
        self._tracing = tracing
        self._metrics = metrics
        self._max_in_progress = max_in_progress
        self._renew_s = renew_s
        self._renewed_s = float("-inf")
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
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _LOOK_S)

    async def _look(self) -> None:
        await self._stop_lost()
        if time.monotonic() - self._renewed_s >= self._renew_s:
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
        for job_id in await asyncio.to_thread(self._claims.recover):
            logger.error("job_failed", job_id=job_id, code="interrupted")
            await asyncio.to_thread(self._artifacts.drop_request, job_id)
            await self._metrics.end(job_id)

    def _spawn(self, claim: Claim) -> None:
        task = asyncio.create_task(self._run(claim), name=claim.job_id)
        self._tasks[claim] = task
        task.add_done_callback(lambda _: self._forget(claim))

    def _forget(self, claim: Claim) -> None:
        self._tasks.pop(claim, None)
        self.wake()

    def _tasks_of(self, job_id: str) -> list[asyncio.Task[None]]:
        return [task for claim, task in self._tasks.items() if claim.job_id == job_id]

    async def _run(self, claim: Claim) -> None:
        bind_contextvars(job_id=claim.job_id, attempt=claim.attempt)
        try:
            await self._drive(claim)
        except LeaseLostError:
            logger.info("job_dropped")
            await self._drop_if_deleted(claim.job_id)
        except Exception as error:  # the edge of the job: whatever it was, its owner must hear
            logger.exception("job_failed", code=job_error(error).code)
            await self._fail(claim, error)

    async def _drive(self, claim: Claim) -> None:
        stored = await asyncio.to_thread(self._artifacts.read_request, claim.job_id)
        job = await asyncio.to_thread(self._store.get, claim.job_id)
        with self._tracing.job(stored.ids, job.created_at, job.size) as trace:
            ids = replace(stored.ids, attempt=claim.attempt, traceparent=trace.traceparent)
            bind_contextvars(**ids.log_fields())
            await self._generate(claim, replace(stored, ids=ids), trace)

    async def _generate(self, claim: Claim, request: GenerateRequest, trace: JobTrace) -> None:
        logger.info("job_started")
        if claim.attempt == 1:
            await self._metrics.begin(claim.job_id)
        start_s, written_s = time.monotonic(), float("-inf")
        results: dict[str, Any] = {}
        gang_clock = GangClock()
        async with aclosing(self._pipeline.generate(request)) as items:
            async for item in items:
                if isinstance(item, VideoResult):
                    results = await self._store_result(claim, item)
                    continue
                trace.record(item)
                gang_clock.see(item)
                if not _is_step(item) or time.monotonic() - written_s >= _MIN_STEP_S:
                    await self._record(claim, item)
                    written_s = time.monotonic()
        await _insist(self._claims.complete, claim, results | {"gang_s": gang_clock.clip_s})
        await asyncio.to_thread(self._artifacts.drop_request, claim.job_id)
        logger.info("job_completed", seconds=round(time.monotonic() - start_s, 3))
        await self._metrics.end(claim.job_id)

    async def _store_result(self, claim: Claim, result: VideoResult) -> dict[str, Any]:
        write = self._artifacts.write_result
        return await asyncio.to_thread(write, claim.job_id, claim.attempt, result)

    async def _record(self, claim: Claim, event: StageEvent) -> None:
        try:
            await asyncio.to_thread(self._claims.record, claim, event)
        except OperationalError:  # a clip is worth more than its progress
            logger.warning("progress_not_written")

    async def _fail(self, claim: Claim, error: Exception) -> None:
        public = job_error(error)
        try:
            await _insist(self._claims.fail, claim, public.code, public.message)
            await asyncio.to_thread(self._artifacts.drop_request, claim.job_id)
            await self._metrics.end(claim.job_id)
        except LeaseLostError:
            await self._drop_if_deleted(claim.job_id)

    async def _release(self, claim: Claim) -> None:
        with suppress(LeaseLostError):  # it ended before it was told to
            await asyncio.to_thread(self._claims.release, claim)

    async def _drop_if_deleted(self, job_id: str) -> None:
        # A file may have been written after the one who deleted the job removed its folder.
        try:
            await asyncio.to_thread(self._store.get, job_id)
        except JobNotFoundError:
            await asyncio.to_thread(self._artifacts.delete, job_id)


async def _insist(write: Callable[..., None], *values: object) -> None:
    """Writes how a job ended, however long the database is away; meanwhile the file is kept."""
    while True:
        try:
            return await asyncio.to_thread(write, *values)
        except OperationalError:
            logger.warning("job_end_not_written")
            await asyncio.sleep(_LOOK_S)


def _is_step(event: StageEvent) -> bool:
    return event.state is StageState.STEP


async def _stop(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
