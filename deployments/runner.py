"""Drives jobs: a bounded queue in order of arrival, a few at once through the pipeline."""

import asyncio
import logging
from contextlib import aclosing

from deployments.artifacts import ArtifactStore
from deployments.errors import DrainingError, QueueFullError
from deployments.http_errors import job_error
from deployments.jobs import IN_PROGRESS, QUEUED, Job, JobStore
from deployments.messages import GenerateRequest, VideoResult
from deployments.pipeline_client import PipelineClient

logger = logging.getLogger("ray.serve")


class JobRunner:
    """One task per job; a semaphore, which is fair, lets the oldest ones through.

    The database is called in threads: a slow disk must not hold up the health checks.

    Args:
        store: Where jobs are written.
        artifacts: Where their files go.
        pipeline: What makes the clips.
        max_concurrent: Jobs handed to the pipeline at once.
        max_queued: Jobs that may wait beside them.
    """

    def __init__(
        self,
        store: JobStore,
        artifacts: ArtifactStore,
        pipeline: PipelineClient,
        *,
        max_concurrent: int,
        max_queued: int,
    ) -> None:
        self._store = store
        self._artifacts = artifacts
        self._pipeline = pipeline
        self._slots = asyncio.Semaphore(max_concurrent)
        self._max_jobs = max_concurrent + max_queued
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running: set[str] = set()
        self._num_admitting = 0
        self._draining = False

    async def restore(self) -> None:
        """Takes up what an earlier gateway left: waiting jobs wait again, begun ones fail."""
        for job in await asyncio.to_thread(self._store.with_status, IN_PROGRESS):
            text = "the gateway restarted while this video was made; send it again"
            await self._fail(job.id, "interrupted", text)
        for job in await asyncio.to_thread(self._store.with_status, QUEUED):
            self._spawn(job.id)

    def check_open(self) -> None:
        """Raises unless one more job may come.

        Raises:
            DrainingError: The gateway is about to stop.
            QueueFullError: As many jobs wait as may.
        """
        if self._draining:
            raise DrainingError("the server is about to stop; send the request again later")
        if len(self._tasks) + self._num_admitting >= self._max_jobs:
            raise QueueFullError("too many videos wait; send the request again later")

    async def submit(self, job: Job, request: GenerateRequest) -> None:
        """Writes a job, then queues it.

        Raises:
            DrainingError: The gateway is about to stop.
            QueueFullError: As many jobs wait as may.
        """
        self.check_open()
        # Shielded: a client that leaves now must not leave a job that nobody drives.
        await asyncio.shield(asyncio.ensure_future(self._write_and_queue(job, request)))

    async def wait(self, job_id: str) -> None:
        """Returns when a job is over."""
        if task := self._tasks.get(job_id):
            await asyncio.wait({task})

    async def cancel(self, job_id: str) -> None:
        """Ends a job that waits or runs, as failed with the code "cancelled"."""
        if task := self._tasks.get(job_id):
            await _stop({task})
            job = await asyncio.to_thread(self._store.get, job_id)
            if not job.is_over:
                await self._fail(job_id, "cancelled", "the video was cancelled")

    async def drain(self, timeout_s: float) -> None:
        """Takes no more jobs and finishes the running ones; those that wait stay in the database.

        Args:
            timeout_s: After this, running jobs are cancelled.
        """
        self._draining = True
        running = {job_id: self._tasks[job_id] for job_id in self._running}
        await _stop(set(self._tasks.values()) - set(running.values()))
        if running:
            await asyncio.wait(running.values(), timeout=timeout_s)
        for job_id in running:
            await self.cancel(job_id)

    async def _write_and_queue(self, job: Job, request: GenerateRequest) -> None:
        self._num_admitting += 1
        try:
            await asyncio.to_thread(self._artifacts.write_request, request)
            await asyncio.to_thread(self._store.add, job)
            self._spawn(request.job_id)
        finally:
            self._num_admitting -= 1

    def _spawn(self, job_id: str) -> None:
        task = asyncio.create_task(self._run(job_id), name=job_id)
        self._tasks[job_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job_id, None))

    async def _run(self, job_id: str) -> None:
        try:
            await self._pipeline.deployed()
            async with self._slots:
                self._running.add(job_id)
                await self._drive(job_id)
        except Exception as error:  # the edge of the job: whatever it was, its owner must hear
            logger.exception("job %s failed", job_id)
            public = job_error(error)
            await self._fail(job_id, public.code, public.message)
        finally:
            self._running.discard(job_id)

    async def _drive(self, job_id: str) -> None:
        request = await asyncio.to_thread(self._artifacts.read_request, job_id)
        await asyncio.to_thread(self._store.start, job_id)
        async with aclosing(self._pipeline.generate(request)) as items:
            async for item in items:
                if isinstance(item, VideoResult):
                    await asyncio.to_thread(self._artifacts.write_result, job_id, item)
                else:
                    await asyncio.to_thread(self._store.record, job_id, item)
        await asyncio.to_thread(self._store.complete, job_id)

    async def _fail(self, job_id: str, code: str, message: str) -> None:
        await asyncio.to_thread(self._store.fail, job_id, code, message)
        await asyncio.to_thread(self._artifacts.drop_request, job_id)


async def _stop(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
