"""Jobs in a database: one row per video, written before anything is queued."""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import JSON, Engine, create_engine, event, func, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from deployments.errors import JobNotFoundError
from deployments.messages import StageEvent, StageState
from deployments.progress import percent

QUEUED, IN_PROGRESS, COMPLETED, FAILED = "queued", "in_progress", "completed", "failed"


class _Base(DeclarativeBase):
    pass


class Job(_Base):
    """One video: what was asked for, how far it is, how it ended."""

    __tablename__ = "jobs"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    status: Mapped[str] = mapped_column(default=QUEUED, index=True)
    model: Mapped[str]
    prompt: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=time.time)
    started_at: Mapped[float | None] = mapped_column(default=None)
    completed_at: Mapped[float | None] = mapped_column(default=None)
    width: Mapped[int]
    height: Mapped[int]
    num_frames: Mapped[int]
    # A seed may use all 64 bits without a sign, which SQL integers do not hold.
    seed: Mapped[str]
    num_inference_steps: Mapped[int]
    notes: Mapped[list[str]] = mapped_column(JSON, default=list)
    progress: Mapped[int] = mapped_column(default=0)
    stage: Mapped[str | None] = mapped_column(default=None)
    step: Mapped[int | None] = mapped_column(default=None)
    total_steps: Mapped[int | None] = mapped_column(default=None)
    stage_durations: Mapped[dict[str, float]] = mapped_column(JSON, default=dict)
    error_code: Mapped[str | None] = mapped_column(default=None)
    error_message: Mapped[str | None] = mapped_column(default=None)

    @property
    def is_over(self) -> bool:
        return self.status in (COMPLETED, FAILED)


class JobStore:
    """All reads and writes of jobs; every call is one short transaction and may run in a thread.

    Args:
        url: SQLAlchemy's database URL.
    """

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url)
        if self._engine.dialect.name == "sqlite":
            _use_write_ahead_log(self._engine)
        _Base.metadata.create_all(self._engine)
        self._session = sessionmaker(self._engine, expire_on_commit=False)

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

    def with_status(self, status: str) -> Sequence[Job]:
        """All jobs of one status, oldest first."""
        with self._session() as session:
            query = select(Job).where(Job.status == status).order_by(Job.number)
            return session.scalars(query).all()

    def count(self) -> dict[str, int]:
        """Number of jobs by status."""
        with self._session() as session:
            rows = session.execute(select(Job.status, func.count()).group_by(Job.status))
            return {status: number for status, number in rows}

    def start(self, job_id: str) -> None:
        """Marks a job as in progress."""
        self._change(job_id, status=IN_PROGRESS, started_at=time.time())

    def record(self, job_id: str, event: StageEvent) -> None:
        """Notes how far a job is; progress never falls."""
        with self._session.begin() as session:
            job = _find(session, job_id)
            job.progress = max(job.progress, percent(event))
            if event.state is StageState.FINISHED:
                seconds = round(event.seconds, 4)
                job.stage_durations = {**job.stage_durations, event.stage.value: seconds}
            else:
                job.stage, job.step, job.total_steps = event.stage.value, event.index, event.total

    def complete(self, job_id: str) -> None:
        """Marks a job whose file is stored."""
        self._change(job_id, status=COMPLETED, progress=100, completed_at=time.time())

    def fail(self, job_id: str, code: str, message: str) -> None:
        """Ends a job with an error code and a message that clients may read."""
        self._change(
            job_id,
            status=FAILED,
            completed_at=time.time(),
            error_code=code,
            error_message=message,
        )

    def delete(self, job_id: str) -> None:
        """Removes a job.

        Raises:
            JobNotFoundError: There is none of this id.
        """
        with self._session.begin() as session:
            session.delete(_find(session, job_id))

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    def _change(self, job_id: str, **values: Any) -> None:
        with self._session.begin() as session:
            job = _find(session, job_id)
            for name, value in values.items():
                setattr(job, name, value)


def _find(session: Session, job_id: str) -> Job:
    job = session.scalar(select(Job).where(Job.id == job_id))
    if job is None:
        raise JobNotFoundError(f"no video has the id {job_id!r}")
    return job


def _use_write_ahead_log(engine: Engine) -> None:
    """Lets readers poll while a step is written, and skips the disk flush per step."""

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA busy_timeout=5000")
        cursor.close()
