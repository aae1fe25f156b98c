"""Jobs in a database: one row per video, written before anything is queued."""

import time

from sqlalchemy import JSON, Double, Engine, delete, func, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from autoscaling.cost import latent_tokens
from autoscaling.work import ClipWork
from deployments.errors import JobNotFoundError
from deployments.gateway_metrics import BEST_EFFORT, DEADLINE, Backlog

QUEUED, IN_PROGRESS, COMPLETED, FAILED = "queued", "in_progress", "completed", "failed"


class Tables(DeclarativeBase):
    """The tables as the code knows them; `deployments.migrations` makes them."""


class Job(Tables):
    """One video: what was asked for, how far it is, how it ended."""

    __tablename__ = "jobs"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    status: Mapped[str] = mapped_column(default=QUEUED, index=True)
    model: Mapped[str]
    prompt: Mapped[str]
    created_at: Mapped[float] = mapped_column(Double, default=time.time)
    started_at: Mapped[float | None] = mapped_column(Double, default=None)
    completed_at: Mapped[float | None] = mapped_column(Double, default=None)
    width: Mapped[int]
    height: Mapped[int]
    num_frames: Mapped[int]
    # A seed may use all 64 bits without a sign, which SQL integers do not hold.
    seed: Mapped[str]
    num_inference_steps: Mapped[int]
    notes: Mapped[list[str]] = mapped_column(JSON, default=list)
    due_at_s: Mapped[float | None] = mapped_column(default=None)
    progress: Mapped[int] = mapped_column(default=0)
    stage: Mapped[str | None] = mapped_column(default=None)
    step: Mapped[int | None] = mapped_column(default=None)
    total_steps: Mapped[int | None] = mapped_column(default=None)
    stage_durations: Mapped[dict[str, float]] = mapped_column(JSON, default=dict)
    error_code: Mapped[str | None] = mapped_column(default=None)
    error_message: Mapped[str | None] = mapped_column(default=None)
    # Which gateway works on it, until when unless it renews, and for the how-manieth time.
    owner: Mapped[str | None] = mapped_column(default=None)
    lease_until: Mapped[float | None] = mapped_column(Double, default=None)
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    # A client, or the canary.
    origin: Mapped[str] = mapped_column(default="client", server_default="client")

    @property
    def size(self) -> dict[str, int]:
        """What the job asks for."""
        return {
            "width": self.width,
            "height": self.height,
            "num_frames": self.num_frames,
            "num_inference_steps": self.num_inference_steps,
        }

    @property
    def work(self) -> ClipWork:
        """What the clip will cost a gang, and when it is due."""
        tokens = latent_tokens(self.num_frames, self.height, self.width)
        return ClipWork(tokens, self.num_inference_steps, self.due_at_s)

    @property
    def is_over(self) -> bool:
        return self.status in (COMPLETED, FAILED)


class JobStore:
    """What every gateway may do with every job; `deployments.claims` has what its owner may.

    Every call is one short transaction and may run in a thread.

    Args:
        engine: From `deployments.database.open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._session = sessionmaker(engine, expire_on_commit=False)

    def add(self, job: Job) -> None:
        """Writes a new job."""
        with self._session.begin() as session:
            session.add(job)

    def get(self, job_id: str) -> Job:
        """One job.

        Raises:
            JobNotFoundError: There is none of this id.
        """
        with self._session() as session:
            return _find(session, job_id)

    def page(self, *, after: str | None, limit: int, newest_first: bool) -> tuple[list[Job], bool]:
        """Jobs in order of creation.

        Args:
            after: Id of the last job of the page before.
            limit: Most jobs to return.
            newest_first: Direction.

        Returns:
            The jobs, and whether more follow.

        Raises:
            JobNotFoundError: `after` names no job.
        """
        with self._session() as session:
            query = select(Job).limit(limit + 1)
            query = query.order_by(Job.number.desc() if newest_first else Job.number)
            if after is not None:
                number = _find(session, after).number
                query = query.where(Job.number < number if newest_first else Job.number > number)
            jobs = list(session.scalars(query))
        return jobs[:limit], len(jobs) > limit

    def count(self) -> dict[str, int]:
        """Number of jobs by status."""
        with self._session() as session:
            rows = session.execute(select(Job.status, func.count()).group_by(Job.status))
            return {status: number for status, number in rows}

    def backlogs(self) -> list[Backlog]:
        """The unfinished jobs of each class."""
        urgent = Job.due_at_s.is_not(None)
        columns = (Job.status, urgent, func.count(), func.min(Job.created_at))
        query = select(*columns).where(Job.status.in_((QUEUED, IN_PROGRESS)))
        with self._session() as session:
            rows = session.execute(query.group_by(Job.status, urgent)).all()
        found: dict[tuple[str, bool], tuple[int, float | None]] = {
            (status, bool(is_urgent)): (number, oldest_s)
            for status, is_urgent, number, oldest_s in rows
        }
        backlogs = []
        for job_class, is_urgent in ((DEADLINE, True), (BEST_EFFORT, False)):
            num_queued, oldest_s = found.get((QUEUED, is_urgent), (0, None))
            num_running, _ = found.get((IN_PROGRESS, is_urgent), (0, None))
            backlogs.append(Backlog(job_class, num_queued, oldest_s, num_running))
        return backlogs

    def num_unfinished(self) -> int:
        """Jobs that wait or run."""
        unfinished = select(func.count()).where(Job.status.in_((QUEUED, IN_PROGRESS)))
        with self._session() as session:
            return session.scalar(unfinished) or 0

    def waiting(self) -> tuple[ClipWork, ...]:
        """What the jobs that wait will cost, oldest first."""
        queue = select(Job).where(Job.status == QUEUED).order_by(Job.number)
        with self._session() as session:
            return tuple(job.work for job in session.scalars(queue))

    def cancel(self, job_id: str) -> bool:
        """Ends a job that waits or runs as failed, and takes it from whoever works on it.

        Returns:
            Whether it was still waiting or running.
        """
        cancelled = (
            update(Job)
            .where(Job.id == job_id, Job.status.in_((QUEUED, IN_PROGRESS)))
            .values(
                status=FAILED,
                completed_at=time.time(),
                error_code="cancelled",
                error_message="the video was cancelled",
                owner=None,
                lease_until=None,
            )
        )
        with self._session.begin() as session:
            return session.scalar(cancelled.returning(Job.number)) is not None

    def delete(self, job_id: str) -> None:
        """Removes a job; whoever works on it loses it.

        Raises:
            JobNotFoundError: There is none of this id.
        """
        with self._session.begin() as session:
            if session.scalar(delete(Job).where(Job.id == job_id).returning(Job.number)) is None:
                raise _not_found(job_id)

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()


def _find(session: Session, job_id: str) -> Job:
    job = session.scalar(select(Job).where(Job.id == job_id))
    if job is None:
        raise _not_found(job_id)
    return job


def _not_found(job_id: str) -> JobNotFoundError:
    return JobNotFoundError(f"no video has the id {job_id!r}")
