"""What becomes of jobs, into the metrics: counted once, by the gateway at which it happens."""

import asyncio
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from cluster.metrics import count, declare, observe, set_gauge
from deployments.errors import JobNotFoundError
from deployments.gateway_metrics import BEST_EFFORT, DEADLINE
from deployments.jobs.store import JobStore
from deployments.jobs.tables import COMPLETED, Job
from model.types import FPS
from monitoring import jobs

CLIENT, CANARY = "client", "canary"
_CANCELLED = "cancelled"


class JobMetrics:
    """Reports jobs by their rows, which hold all that there is to say.

    Args:
        store: Where the rows are.
        wait_objective_s: How long a job should wait at most.
    """

    def __init__(self, store: JobStore, *, wait_objective_s: float) -> None:
        self._store = store
        self._wait_objective_s = wait_objective_s
        for metric in (jobs.JOBS, jobs.JOB_FAILURES, jobs.SLO_JOBS, jobs.FRAMES):
            declare(metric)
        declare(jobs.JOB_RETRIES)
        declare(jobs.VIDEO_SECONDS)
        declare(jobs.JOBS_REFUSED)

    async def begin(self, job_id: str) -> None:
        """A job was handed to the pipeline for the first time."""
        job = await self._find(job_id)
        if job is not None and job.started_at is not None:
            wait_s = job.started_at - job.created_at
            observe(jobs.JOB_WAIT_SECONDS, wait_s, job_class=job_class(job))
            _judge("wait", wait_s <= self._wait_objective_s)

    async def end(self, job_id: str) -> None:
        """A job was completed or failed; one that was deleted meanwhile is `cancel`'s."""
        job = await self._find(job_id)
        if job is not None and job.completed_at is not None:
            if job.status == COMPLETED:
                _complete(job)
            _close(job, _outcome(job), job.error_code, job.completed_at)

    def cancel(self, job: Job, at_s: float) -> None:
        """A job was deleted before its end.

        Args:
            job: As it was.
            at_s: Unix time.
        """
        _close(job, _CANCELLED, _CANCELLED, at_s)

    def retry(self, code: str) -> None:
        """An attempt failed for this reason, and the job waits for the next."""
        count(jobs.JOB_RETRIES, 1, code=code)

    async def _find(self, job_id: str) -> Job | None:
        # Work goes on without the database, and so without being counted.
        with suppress(JobNotFoundError, SQLAlchemyError):
            return await asyncio.to_thread(self._store.get, job_id)
        return None


def job_class(job: Job) -> str:
    """Whether somebody waits for the job by a certain time."""
    return BEST_EFFORT if job.due_at_s is None else DEADLINE


def _outcome(job: Job) -> str:
    if job.status == COMPLETED:
        return "completed"
    return _CANCELLED if job.error_code == _CANCELLED else "failed"


def _complete(job: Job) -> None:
    labels = {"job_class": job_class(job)}
    count(jobs.FRAMES, job.num_frames, **labels)
    count(jobs.VIDEO_SECONDS, job.num_frames / FPS, **labels)
    if job.origin == CANARY and job.completed_at is not None:
        set_gauge(jobs.CANARY_SUCCESS_TIME, job.completed_at)


def _close(job: Job, outcome: str, code: str | None, at_s: float) -> None:
    labels = {"outcome": outcome, "job_class": job_class(job)}
    count(jobs.JOBS, 1, **labels, origin=job.origin)
    observe(jobs.JOB_SECONDS, at_s - job.created_at, **labels)
    if code is not None:
        count(jobs.JOB_FAILURES, 1, code=code)
    if outcome != _CANCELLED:
        _judge("completed", outcome == "completed")
        if job.due_at_s is not None:
            _judge("deadline", outcome == "completed" and at_s <= job.due_at_s)


def _judge(objective: str, attained: bool) -> None:
    count(jobs.SLO_JOBS, 1, objective=objective, attained=str(attained).lower())
