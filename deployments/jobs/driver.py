"""Brings one claimed job to its end, or back into the queue with all that was done."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

from structlog.contextvars import bind_contextvars

from cluster.logs import get_logger
from deployments.artifacts.latents import KeptWork
from deployments.artifacts.store import ArtifactStore
from deployments.errors import (
    ArtifactStoreError,
    JobNotFoundError,
    LeaseLostError,
)
from deployments.jobs.claims import Claim, Claims
from deployments.jobs.failures import job_error
from deployments.jobs.insist import DATABASE_AWAY, ask_database, ask_store
from deployments.jobs.keeper import Keeper
from deployments.jobs.metrics import JobMetrics
from deployments.jobs.prediction import GangClock
from deployments.jobs.retries import OUT_OF_MEMORY, GiveUp, RetrySettings, Standing, decide
from deployments.jobs.store import JobStore
from deployments.jobs.tables import Job
from deployments.messages import GenerateRequest, StageEvent, StageState, VideoResult
from deployments.pipeline_client import Item, PipelineClient
from deployments.tracing import JobTrace, Tracing
from model.types import Latents, SamplerState

logger = get_logger(__name__)
T = TypeVar("T")

# Bounds what one job writes; polls are slower.
_MIN_STEP_S = 0.05
# Inputs that cannot be read now are read at the next attempt.
_READ_PATIENCE_S = 10.0


class JobDriver:
    """Streams jobs through the pipeline; what fails is tried again by `deployments.jobs.retries`.

    The database and the files are called in threads: a slow disk must not hold up health checks.

    Args:
        store: All jobs.
        claims: Those that this gateway works on.
        artifacts: Where their files go.
        pipeline: What makes the clips.
        tracing: Where their traces go.
        metrics: Told of each job's beginning and end.
        settings: How persistent to be.
    """

    def __init__(
        self,
        store: JobStore,
        claims: Claims,
        artifacts: ArtifactStore,
        pipeline: PipelineClient,
        tracing: Tracing,
        metrics: JobMetrics,
        settings: RetrySettings,
    ) -> None:
        self._store = store
        self._claims = claims
        self._artifacts = artifacts
        self._kept = KeptWork(artifacts)
        self._pipeline = pipeline
        self._tracing = tracing
        self._metrics = metrics
        self._settings = settings

    async def run(self, claim: Claim) -> None:
        """Works on a job until it is over, waits again, or is no longer the claim's."""
        bind_contextvars(job_id=claim.job_id, attempt=claim.attempt)
        keeper = Keeper(self._kept, self._claims, claim, self._settings)
        try:
            await self._drive(claim, keeper)
        except asyncio.CancelledError:
            await keeper.close()
            await self._clean_up(claim.job_id)
            raise
        except LeaseLostError:
            logger.info("job_dropped")
            await self._clean_up(claim.job_id)
        except Exception as error:  # the edge of the job: whatever it was, its owner must hear
            await self._fail(claim, keeper, error)
        finally:
            await keeper.close()

    async def drop_work(self, job_id: str) -> None:
        """Removes what only the making of a video needs."""
        try:
            await asyncio.to_thread(self._artifacts.drop_request, job_id)
            await asyncio.to_thread(self._kept.drop, job_id)
        except ArtifactStoreError:
            logger.warning("job_files_left", job_id=job_id)

    async def _drive(self, claim: Claim, keeper: Keeper) -> None:
        job = await ask_database(self._store.get, claim.job_id)
        stored = await self._read(self._artifacts.read_request, claim.job_id)
        latents = await self._latents(claim)
        with self._tracing.job(stored.ids, job.created_at, job.size) as trace:
            ids = replace(stored.ids, attempt=claim.attempt, traceparent=trace.traceparent)
            bind_contextvars(**ids.log_fields())
            logger.info("job_started", decode_only=latents is not None)
            if claim.attempt == 1:
                await self._metrics.begin(claim.job_id)
            start_s = time.monotonic()
            request = replace(stored, ids=ids)
            items = await self._items(claim, request, latents)
            result, gang_s = await self._generate(claim, items, keeper, trace)
        await self._complete(claim, keeper, result, gang_s)
        logger.info("job_completed", seconds=round(time.monotonic() - start_s, 3))
        await self._metrics.end(claim.job_id)

    async def _read(self, call: Callable[[str], T], job_id: str) -> T:
        return await ask_store(call, job_id, settings=self._settings, patience_s=_READ_PATIENCE_S)

    async def _latents(self, claim: Claim) -> Latents | None:
        """What an earlier attempt left, whether or not it could still note that it did."""
        if claim.attempt == 1:
            return None
        latents = await self._read(self._kept.read_latents, claim.job_id)
        if latents is not None:
            await ask_database(self._claims.note_latents, claim)
        return latents

    async def _items(
        self, claim: Claim, request: GenerateRequest, latents: Latents | None
    ) -> AsyncGenerator[Item, None]:
        """What is left to do."""
        if latents is not None:
            return self._pipeline.decode(request, latents)
        if claim.attempt == 1:
            return self._pipeline.generate(request)
        state = await self._read(self._kept.read_state, claim.job_id)
        return self._pipeline.generate(request, state)

    async def _generate(
        self, claim: Claim, items: AsyncGenerator[Item, None], keeper: Keeper, trace: JobTrace
    ) -> tuple[VideoResult, float | None]:
        """The clip, and the seconds that a gang took for it, if it is known."""
        written_s, gang_clock = float("-inf"), GangClock()
        result: VideoResult | None = None
        async with aclosing(items):
            async for item in items:
                if isinstance(item, VideoResult):
                    result = item
                elif isinstance(item, Latents):
                    keeper.keep(item)
                elif isinstance(item, SamplerState):
                    keeper.keep_state(item)
                else:
                    trace.record(item)
                    gang_clock.see(item)
                    if not _is_step(item) or time.monotonic() - written_s >= _MIN_STEP_S:
                        await self._record(claim, item)
                        written_s = time.monotonic()
        assert result is not None, "the pipeline ended a clip without its video"
        return result, gang_clock.clip_s

    async def _complete(
        self, claim: Claim, keeper: Keeper, result: VideoResult, gang_s: float | None
    ) -> None:
        # Held until it is written: a store that is away must not cost the gang's work.
        results = await ask_store(
            self._artifacts.write_result,
            claim.job_id,
            claim.attempt,
            result,
            settings=self._settings,
            patience_s=self._settings.store_patience_s,
        )
        await keeper.close()
        await ask_database(self._claims.complete, claim, results | {"gang_s": gang_s})
        # Only now: whoever finds the job unfinished needs them.
        await self.drop_work(claim.job_id)

    async def _record(self, claim: Claim, event: StageEvent) -> None:
        try:
            await asyncio.to_thread(self._claims.record, claim, event)
        except DATABASE_AWAY:  # a clip is worth more than its progress
            logger.warning("progress_not_written")

    async def _fail(self, claim: Claim, keeper: Keeper, error: Exception) -> None:
        """Puts the job back or ends it; latents that are there are kept before."""
        logger.warning("job_attempt_failed", code=job_error(error).code, exc_info=error)
        try:
            try:
                await keeper.finish()
            except ArtifactStoreError as unavailable:
                error = unavailable
            await self._decide(claim, keeper, error)
        except (LeaseLostError, JobNotFoundError):
            logger.info("job_dropped")
            await self._clean_up(claim.job_id)

    async def _decide(self, claim: Claim, keeper: Keeper, error: Exception) -> None:
        public = job_error(error)
        job = await ask_database(self._store.get, claim.job_id)
        standing = Standing(
            attempt=claim.attempt,
            failures=job.failures,
            strikes=job.strikes,
            denoised=keeper.has_latents,
            latents_kept=job.latents_at is not None,
            size_has_run=public.code == OUT_OF_MEMORY and await self._size_has_run(job),
        )
        how = decide(public.code, public.message, standing, self._settings, jitter=random.random())
        if isinstance(how, GiveUp):
            await ask_database(self._claims.fail, claim, how.code, how.message)
            logger.error("job_failed", code=how.code)
            await self.drop_work(claim.job_id)
            await self._metrics.end(claim.job_id)
            return
        await ask_database(self._claims.retry, claim, how)
        logger.warning("job_retried", code=public.code, delay_s=round(how.delay_s, 3))
        self._metrics.retry(public.code)

    async def _size_has_run(self, job: Job) -> bool:
        """Whether the gangs as they are now have made a clip that needs as much memory."""
        since_s = await self._pipeline.deployed_at()
        return await ask_database(self._store.has_completed, job, since_s)

    async def _clean_up(self, job_id: str) -> None:
        """Files may have been written after whoever ended the job removed its own."""
        try:
            job = await asyncio.to_thread(self._store.get, job_id)
        except JobNotFoundError:
            await asyncio.to_thread(self._artifacts.delete, job_id)
        except DATABASE_AWAY:
            logger.warning("job_files_left", job_id=job_id)
        else:
            if job.is_over:
                await self.drop_work(job_id)


def _is_step(event: StageEvent) -> bool:
    return event.state is StageState.STEP
