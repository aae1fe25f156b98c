"""What the gateway can do, without HTTP: jobs in, jobs and files out."""

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from uuid import uuid4

from sqlalchemy.exc import SQLAlchemyError

from cluster.logs import get_logger
from deployments.api.admission import admit, new_job
from deployments.api.authentication import Authentication
from deployments.api.create_body import CreateBody
from deployments.api.identity import Caller
from deployments.artifacts.collecting import Collecting
from deployments.artifacts.collector import Collector
from deployments.artifacts.files import TENSORS, VARIANTS, VIDEO, StoredFile
from deployments.artifacts.objects import Objects
from deployments.artifacts.store import ArtifactStore
from deployments.errors import (
    ArtifactStoreError,
    ContentExpiredError,
    ContentNotReadyError,
    JobFailedError,
    VariantNotFoundError,
)
from deployments.gateway_config import GatewayConfig
from deployments.gateway_metrics import exposition
from deployments.ids import JobIds
from deployments.images.first_frame import FirstFrames
from deployments.jobs.claims import Claims
from deployments.jobs.database import open_database
from deployments.jobs.driver import JobDriver
from deployments.jobs.forecast import Forecast
from deployments.jobs.hand_over import HandOver
from deployments.jobs.intake import Intake
from deployments.jobs.metrics import CLIENT, JobMetrics
from deployments.jobs.outlook import Outlook
from deployments.jobs.repeats import Accepted, Intent, Repeats
from deployments.jobs.runner import JobRunner
from deployments.jobs.store import JobStore
from deployments.jobs.tables import COMPLETED, FAILED, Job
from deployments.jobs.watch import Watch
from deployments.keys.charge import Charge
from deployments.keys.store import KeyStore
from deployments.messages import GenerateRequest
from deployments.pipeline_client import PipelineClient
from deployments.tracing import Tracing
from deployments.webhooks.service import WebhookService
from model.errors import InvalidInputError
from model.types import DenoiserFacts

logger = get_logger(__name__)

_LOOK_S = 0.5


class VideoService:
    """Jobs, their files and the pipeline that makes them.

    Args:
        config: Limits, defaults and places.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self.objects = Objects(config.artifacts_url)
        self._artifacts = ArtifactStore(
            self.objects, expire_after_s=config.artifacts.expire_after_s
        )
        self._first_frames = FirstFrames(config.fetch, config.limits)
        engine = open_database(config.store_url())
        self._store = JobStore(engine)
        self._collecting = Collecting(
            Collector(engine, self.objects, forget_after_s=config.artifacts.forget_after_s),
            interval_s=config.artifacts.collect_interval_s,
        )
        self._forecast = Forecast(
            engine,
            max_in_progress=lambda: self._runner.max_in_progress,
            max_wait_s=config.scheduling.max_wait_s,
        )
        self.watch = Watch(engine, self._forecast.of, max_watchers=config.events.max_streams)
        self._repeats = Repeats(engine, window_s=config.repeat_window_s)
        self.authentication = Authentication(KeyStore(engine), config.auth)
        self.webhooks = WebhookService(engine, config.webhooks)
        self._tracing = Tracing(config.tracing)
        self._pipeline = PipelineClient(
            config.pipeline,
            timeout_s=config.pipeline_timeout_s,
            silence_s=config.pipeline_silence_s,
        )
        fixed = config.max_concurrent_jobs
        self._metrics = JobMetrics(self._store, wait_objective_s=config.wait_objective_s)
        retries = config.retries
        claims = Claims(
            engine, _unique_name(), lease_s=config.lease_s, max_failures=retries.max_failures
        )
        self._driver = JobDriver(
            self._store,
            claims,
            self._artifacts,
            self._pipeline,
            self._tracing,
            self._metrics,
            retries,
        )
        self._runner = JobRunner(
            claims,
            self._driver,
            self._pipeline,
            self._metrics,
            max_in_progress=0 if fixed is None else fixed,
            lease_s=config.lease_s,
            max_queue_s=retries.max_queue_s,
        )
        self._intake = Intake(
            self._store,
            self._artifacts,
            self._forecast,
            max_jobs=lambda: self._runner.max_in_progress + config.limits.max_queued_jobs,
            on_new=self._runner.wake,
        )
        self._hand_over = HandOver(
            self._forecast,
            self._runner,
            self._pipeline,
            interval_s=config.report_interval_s,
            follow_gangs=fixed is None,
        )
        self._ending: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begins to claim jobs, those of earlier gateways first."""
        self._runner.start()
        self._hand_over.loop.start()
        self._collecting.loop.start()
        self.webhooks.start()

    def check_health(self) -> None:
        """Raises if work in the background has stopped for good.

        Raises:
            LoopEndedError: A loop has ended by itself.
        """
        self._runner.check_health()
        self._hand_over.loop.check()
        self._collecting.loop.check()
        self.webhooks.check_health()

    async def create(
        self,
        body: CreateBody,
        ids: JobIds,
        caller: Caller,
        intent: Intent,
        *,
        origin: str = CLIENT,
    ) -> Accepted:
        """Checks a request and queues its job under the given names, unless it has one.

        Args:
            body: The request.
            ids: The names.
            caller: Whose the job will be.
            intent: By what the request is known again.
            origin: Who sent it, for the metrics.

        Raises:
            InvalidInputError: A field is wrong.
            IdempotencyMismatchError: Its key stands for another request.
            QueueFullError: Too many jobs wait.
            QuotaExceededError: The caller's key has used up what it may.
            PermissionDeniedError: It does not allow this priority.
            DrainingError: No new jobs are taken.
            PipelineUnavailableError: The prompt cannot be checked yet.
        """
        return await self._repeats.once(
            caller.key_id, intent, lambda: self._submit(body, ids, caller, intent, origin)
        )

    async def wait(self, job_id: str, caller: Caller, *, keep: bool = False) -> StoredFile:
        """Waits for a job and returns its video; a caller that is cancelled cancels the job.

        Args:
            job_id: Which.
            caller: Whose the job must be.
            keep: Whether a caller that is cancelled leaves the job alone.

        Raises:
            JobFailedError: The job ended without a video.
        """
        try:
            while not (job := await self.get(job_id, caller)).is_over:
                await self._runner.finished(job_id, timeout_s=_LOOK_S)
        except asyncio.CancelledError:
            if not keep:
                await asyncio.shield(self._cancel(job_id))
            raise
        if job.status == FAILED:
            raise JobFailedError(job.error_code or "", job.error_message or "")
        return _stored(job, VIDEO)

    async def get(self, job_id: str, caller: Caller) -> Job:
        """One job of the caller's; nothing else tells whose a job is.

        Raises:
            JobNotFoundError: There is none of this id, or it is somebody else's.
        """
        return await asyncio.to_thread(self._store.get, job_id, key_id=caller.sees)

    async def outlooks(self, *jobs: Job) -> Mapping[str, Outlook]:
        """Place in the queue and time left of those jobs that are not over, by their ids."""
        return await asyncio.to_thread(self._forecast.of, jobs)

    async def page(
        self, caller: Caller, *, after: str | None, limit: int, newest_first: bool
    ) -> tuple[list[Job], bool]:
        """Some of the caller's jobs in order of creation, and whether more follow.

        Raises:
            JobNotFoundError: `after` names no job.
        """
        return await asyncio.to_thread(
            self._store.page,
            key_id=caller.sees,
            after=after,
            limit=limit,
            newest_first=newest_first,
        )

    async def cancel(self, job_id: str, caller: Caller) -> Job:
        """Ends a job that waits or runs; one that is over stays as it is.

        Raises:
            JobNotFoundError: There is none of this id.
        """
        await self.get(job_id, caller)
        # Shielded: a client that leaves now must not leave a cancelled job its inputs.
        await asyncio.shield(self._cancel(job_id))
        return await self.get(job_id, caller)

    async def delete(self, job_id: str, caller: Caller) -> None:
        """Stops a job if need be and removes all of it.

        Raises:
            JobNotFoundError: There is none of this id.
        """
        job = await self.get(job_id, caller)
        # Shielded: a client that leaves now must not leave a deleted job its files.
        await asyncio.shield(self._delete(job))

    async def content(
        self, job_id: str, variant: str, caller: Caller
    ) -> tuple[StoredFile, float | None]:
        """A file of a finished job, and until when it is kept.

        Args:
            job_id: Which.
            variant: One of `deployments.artifacts.files.VARIANTS`.
            caller: Whose the job must be.

        Raises:
            JobNotFoundError: There is none of this id.
            InvalidInputError: There is no such kind of file.
            ContentNotReadyError: The job is not finished, or failed.
            ContentExpiredError: It was kept as long as files are kept.
            VariantNotFoundError: The job was not asked for it.
        """
        job = await self.get(job_id, caller)
        if variant not in VARIANTS:
            raise InvalidInputError("variant", f"must be one of {', '.join(VARIANTS)}")
        if job.status != COMPLETED:
            raise ContentNotReadyError(f"video {job_id} is {job.status}")
        if job.expires_at is not None and job.expires_at <= time.time():
            raise ContentExpiredError(f"the files of video {job_id} have expired; make it again")
        return _stored(job, variant), job.expires_at

    async def not_ready(self) -> list[str]:
        """Why no video can be made now; empty when one can."""
        return await self._pipeline.not_ready()

    async def denoiser_facts(self) -> DenoiserFacts | None:
        """What the gangs chose at their start; None while nobody knows."""
        return await self._pipeline.denoiser_facts()

    async def metrics(self) -> bytes:
        """The state of queue and service, as Prometheus reads it."""
        backlogs = None
        with suppress(SQLAlchemyError):
            backlogs = await asyncio.to_thread(self._store.backlogs)
        ready = not await self._pipeline.not_ready()
        return exposition(backlogs, ready=ready, now_s=time.time())

    async def count(self) -> dict[str, int]:
        """Number of jobs that wait and that run."""
        return await asyncio.to_thread(self._store.count)

    async def drain(self, timeout_s: float) -> None:
        """Takes no more jobs and waits for the running ones; what is left waits again."""
        self._intake.close()
        self.watch.close()
        await self._runner.drain(timeout_s)
        await self.webhooks.stop()
        await asyncio.to_thread(self._tracing.flush)

    def close(self) -> None:
        """Closes the connections to the database and ends the processes that decode images."""
        self._first_frames.close()
        self._store.close()

    async def _submit(
        self, body: CreateBody, ids: JobIds, caller: Caller, intent: Intent, origin: str
    ) -> Job:
        caller.check_priority(body.fields.priority)
        await self._intake.check_open()
        image = await self._first_frames.read(body)
        admitted = await asyncio.to_thread(admit, body, image, self.config, ids)
        await self._check_prompts(body, admitted.request)
        job = new_job(admitted, self.config.model_name)
        job.origin, job.key_id = origin, caller.key_id
        job.idempotency_key, job.request_hash = intent.key, intent.request_hash
        await self._intake.submit(job, admitted.request, await self._charge(caller))
        return await self.get(job.id, caller)

    async def _charge(self, caller: Caller) -> Charge:
        if caller.quotas.gpu_seconds_per_day is None:
            return Charge(caller.quotas)
        facts = await self._pipeline.denoiser_facts()
        return Charge(caller.quotas, gpus_per_gang=1 if facts is None else facts.ranks)

    async def _cancel(self, job_id: str) -> None:
        if await asyncio.to_thread(self._store.cancel, job_id):
            logger.info("job_cancelled", job_id=job_id)
            await self._metrics.end(job_id)
            self._end(job_id)
            await self._runner.drop(job_id)
            await self._driver.drop_work(job_id)

    async def _delete(self, job: Job) -> None:
        await asyncio.to_thread(self._store.delete, job.id)
        logger.info("job_deleted", job_id=job.id)
        if not job.is_over:
            self._metrics.cancel(job, time.time())
            self._end(job.id)
        await self._runner.drop(job.id)
        try:
            await asyncio.to_thread(self._artifacts.delete, job.id)
        except ArtifactStoreError:  # the video is gone for its owner; the collector finds the rest
            logger.warning("job_files_left", job_id=job.id)

    def _end(self, job_id: str) -> None:
        """Tells the pipeline, however long it is away: nobody waits for its answer."""
        task = asyncio.create_task(self._pipeline.end(job_id), name=f"end {job_id}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _check_prompts(self, body: CreateBody, request: GenerateRequest) -> None:
        limit = self.config.limits.max_prompt_tokens
        prompts = {"prompt": request.prompt}
        if body.fields.negative_prompt:
            prompts["negative_prompt"] = request.negative_prompt
        for field, text in prompts.items():
            # No token is longer than a few dozen characters; counting a megabyte is pointless.
            if len(text) > 100 * limit:
                raise InvalidInputError(field, f"is too long; send at most {limit} tokens")
            count = await self._pipeline.num_tokens(text)
            if count > limit:
                raise InvalidInputError(field, f"has {count} tokens; send at most {limit}")


def _stored(job: Job, variant: str) -> StoredFile:
    if variant not in job.artifacts:
        hint = "; create it with return_tensors" if variant == TENSORS else ""
        raise VariantNotFoundError(f"{job.id} has no {variant}{hint}")
    return StoredFile.of_row(job.artifacts[variant])


def _unique_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
