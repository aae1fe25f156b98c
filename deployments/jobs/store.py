"""Jobs in a database: one row per video, written before anything is queued."""

import time
from itertools import product

from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from autoscaling.order import PRIORITIES
from deployments.errors import JobNotFoundError, QueueFullError
from deployments.gateway_metrics import BEST_EFFORT, DEADLINE, Backlog
from deployments.jobs.queue import lock_places, tags_of
from deployments.jobs.tables import COMPLETED, FAILED, IN_PROGRESS, QUEUED, Job
from deployments.keys.charge import Charge
from deployments.webhooks.outbox import note_ends


class JobStore:
    """What every gateway may do with every job; `deployments.jobs.claims` has what its owner may.

    Every call is one short transaction and may run in a thread.

    Args:
        engine: From `deployments.jobs.database.open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._session = sessionmaker(engine, expire_on_commit=False)

    def add(
        self, job: Job, charge: Charge | None = None, *, max_unfinished: int | None = None
    ) -> None:
        """Writes a new job, in its place in the queue.

        Args:
            job: The job.
            charge: What it takes from its key's quotas.
            max_unfinished: Jobs that may wait or run, this one included; None: any number.

        Raises:
            QueueFullError: There are as many.
            QuotaExceededError: One of the quotas is used up.
        """
        with self._session.begin() as session:
            lock_places(session)
            if max_unfinished is not None and _num_unfinished(session) >= max_unfinished:
                raise QueueFullError("too many videos wait; send the request again later")
            if charge is not None:
                charge.book(session, job)
            tags = tags_of(session, job, time.time())
            job.fair_start, job.order_tag = tags.start, tags.order
            session.add(job)

    def get(self, job_id: str, *, key_id: str | None = None) -> Job:
        """One job.

        Args:
            job_id: Which.
            key_id: Whose it must be; None takes anybody's.

        Raises:
            JobNotFoundError: There is none of this id, or it is somebody else's.
        """
        with self._session() as session:
            return _find(session, job_id, key_id)

    def page(
        self, *, key_id: str | None, after: str | None, limit: int, newest_first: bool
    ) -> tuple[list[Job], bool]:
        """Somebody's jobs in order of creation.

        Args:
            key_id: Whose; None takes everybody's.
            after: Id of the last job of the page before.
            limit: Most jobs to return.
            newest_first: Direction.

        Returns:
            The jobs, and whether more follow.

        Raises:
            JobNotFoundError: `after` names none of these jobs.
        """
        with self._session() as session:
            query = select(Job).limit(limit + 1)
            if key_id is not None:
                query = query.where(Job.key_id == key_id)
            query = query.order_by(Job.number.desc() if newest_first else Job.number)
            if after is not None:
                number = _find(session, after, key_id).number
                query = query.where(Job.number < number if newest_first else Job.number > number)
            jobs = list(session.scalars(query))
        return jobs[:limit], len(jobs) > limit

    def count(self) -> dict[str, int]:
        """Number of jobs that wait and that run; the others are too many to count often."""
        counted = select(Job.status, func.count()).where(Job.status.in_((QUEUED, IN_PROGRESS)))
        with self._session() as session:
            rows = session.execute(counted.group_by(Job.status))
            return {status: number for status, number in rows}

    def backlogs(self) -> list[Backlog]:
        """The unfinished jobs of each class and priority."""
        kinds = (Job.status, Job.due_at_s.is_not(None), Job.priority)
        query = select(*kinds, func.count(), func.min(Job.created_at))
        unfinished = query.where(Job.status.in_((QUEUED, IN_PROGRESS))).group_by(*kinds)
        with self._session() as session:
            found = {
                (status, bool(is_urgent), priority): (number, oldest_s)
                for status, is_urgent, priority, number, oldest_s in session.execute(unfinished)
            }
        backlogs = []
        for job_class, priority in product((DEADLINE, BEST_EFFORT), PRIORITIES):
            kind = (job_class == DEADLINE, priority)
            num_queued, oldest_s = found.get((QUEUED, *kind), (0, None))
            num_running, _ = found.get((IN_PROGRESS, *kind), (0, None))
            backlogs.append(Backlog(job_class, priority, num_queued, oldest_s, num_running))
        return backlogs

    def num_unfinished(self) -> int:
        """Jobs that wait or run."""
        with self._session() as session:
            return _num_unfinished(session)

    def has_completed(self, like: Job, since_s: float) -> bool:
        """Whether a video of at least this job's size was completed.

        Args:
            like: The job.
            since_s: Unix time; earlier ones do not count.
        """
        volume = like.width * like.height * like.num_frames
        query = select(Job.number).where(
            Job.status == COMPLETED,
            Job.completed_at >= since_s,
            Job.width * Job.height * Job.num_frames >= volume,
        )
        with self._session() as session:
            return session.scalar(query.limit(1)) is not None

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
            if session.scalar(cancelled.returning(Job.number)) is None:
                return False
            note_ends(session, [job_id])
        return True

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


def _num_unfinished(session: Session) -> int:
    unfinished = select(func.count()).where(Job.status.in_((QUEUED, IN_PROGRESS)))
    return session.scalar(unfinished) or 0


def _find(session: Session, job_id: str, key_id: str | None) -> Job:
    if not job_id.isprintable():  # PostgreSQL fails on a NUL instead of finding nothing
        raise _not_found(job_id)
    job = session.scalar(select(Job).where(Job.id == job_id))
    if job is None or key_id not in (None, job.key_id):
        raise _not_found(job_id)
    return job


def _not_found(job_id: str) -> JobNotFoundError:
    return JobNotFoundError(f"no video has the id {job_id!r}")
