"""Who works on a job: claims with a lease, so that no job runs twice at once and none is forgotten.

A gateway claims waiting jobs, renews their leases while it lives, and may write only what it still
holds. A lease that has run out means that its gateway is gone: the job goes back into the queue.
A job whose final latents are kept waits with all that was done until then.
Leases compare the clocks of the gateways' machines, which must agree to within a few seconds.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy import JSON, Engine, case, func, literal, or_, select, update
from sqlalchemy.orm import sessionmaker

from deployments.errors import LeaseLostError
from deployments.jobs.progress import DENOISED_PERCENT, percent
from deployments.jobs.queue import gangs_behind, next_jobs
from deployments.jobs.retries import EXPIRED, Retry
from deployments.jobs.tables import COMPLETED, FAILED, IN_PROGRESS, QUEUED, Job
from deployments.messages import StageEvent, StageState
from deployments.webhooks.outbox import note_ends

_NONE: Collection["Claim"] = ()
_NO_RESULTS: Mapping[str, Any] = MappingProxyType({})
_INTERRUPTED = (
    "work on this video failed too often, the last time as its gateway stopped; send it again"
)


@dataclass(frozen=True, slots=True)
class Claim:
    """One gateway's right to work on one job.

    Args:
        job_id: Which.
        attempt: Counts the claims of a job; a claim of an earlier attempt is worth nothing.
    """

    job_id: str
    attempt: int


class Claims:
    """The claims of one gateway; every call is one short transaction and may run in a thread.

    Args:
        engine: From `deployments.jobs.database.open_database`.
        owner: Name of this gateway, unlike any other's.
        lease_s: How long a claim lasts unless it is renewed.
        max_failures: Failed attempts with which a job whose gateway is gone fails.
        clock: Unix time.
    """

    def __init__(
        self,
        engine: Engine,
        owner: str,
        *,
        lease_s: float,
        max_failures: int = 4,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._session = sessionmaker(engine, expire_on_commit=False)
        self._owner = owner
        self._lease_s = lease_s
        self._clock = clock
        self._max_failures = max_failures

    def claim(self, max_in_progress: int) -> list[Claim]:
        """Takes the jobs whose turn it is, see `autoscaling.order`.

        Args:
            max_in_progress: Jobs that all gateways together may work on.
        """
        now_s = self._clock()
        with self._session() as session:
            running = select(func.count()).where(Job.status == IN_PROGRESS)
            free = max_in_progress - (session.scalar(running) or 0)
            if free <= 0:
                return []
            chosen = next_jobs(session, gangs_behind(max_in_progress), free, now_s)
        if not chosen:
            return []
        # What another gateway takes at this moment is skipped. A CTE, as PostgreSQL may evaluate a
        # locking subquery more than once.
        waiting = select(Job.number).where(Job.number.in_(chosen), Job.status == QUEUED)
        locked = waiting.with_for_update(skip_locked=True).cte("locked")
        mine = update(Job).where(Job.number.in_(select(locked.c.number)), Job.status == QUEUED)
        taken = mine.values(
            status=IN_PROGRESS,
            started_at=now_s,
            owner=self._owner,
            lease_until=now_s + self._lease_s,
            attempts=Job.attempts + 1,
        )
        with self._session.begin() as session:
            rows = session.execute(taken.returning(Job.number, Job.id, Job.attempts)).all()
        ordered = sorted(rows, key=lambda row: chosen.index(row.number))
        return [Claim(row.id, row.attempts) for row in ordered]

    def renew(self, claims: Collection[Claim]) -> None:
        """Puts off the end of some leases."""
        renewed = update(Job).where(
            Job.id.in_([claim.job_id for claim in claims]),
            Job.owner == self._owner,
            Job.status == IN_PROGRESS,
        )
        with self._session.begin() as session:
            session.execute(renewed.values(lease_until=self._clock() + self._lease_s))

    def still_held(self, claims: Collection[Claim]) -> set[Claim]:
        """Those claims that nobody has ended from outside."""
        ids = [claim.job_id for claim in claims]
        query = select(Job.id, Job.attempts).where(Job.id.in_(ids), Job.owner == self._owner)
        with self._session() as session:
            held = {Claim(job_id, attempt) for job_id, attempt in session.execute(query)}
        return held & set(claims)

    def recover(self, held: Collection[Claim] = _NONE) -> list[str]:
        """Deals with jobs whose gateway is gone: they wait again, or fail if that was too often.

        Args:
            held: Claims on which this gateway works, whatever their leases say: it is not gone, but
                may have stood still.

        Returns:
            Ids of those that failed.
        """
        # Without a lease: a release before leases was at work.
        over = or_(Job.lease_until.is_(None), Job.lease_until < self._clock())
        mine = (Job.owner == self._owner) & Job.id.in_([claim.job_id for claim in held])
        lost = update(Job).where(Job.status == IN_PROGRESS, over, ~func.coalesce(mine, False))
        with self._session.begin() as session:
            failed = session.scalars(
                lost.where(Job.failures + 1 >= self._max_failures)
                .values(_failure("interrupted", _INTERRUPTED, self._clock()))
                .returning(Job.id)
            ).all()
            session.execute(lost.values({**_WAITING, "failures": Job.failures + 1}))
            note_ends(session, failed)
        return list(failed)

    def expire(self, max_queue_s: float) -> list[str]:
        """Fails jobs that still wait so long after they were sent.

        Returns:
            Their ids.
        """
        message = f"it waited for more than {max_queue_s:g} s; send it again"
        old = update(Job).where(Job.status == QUEUED, Job.created_at < self._clock() - max_queue_s)
        with self._session.begin() as session:
            ended = old.values(_failure(EXPIRED, message, self._clock())).returning(Job.id)
            expired = list(session.scalars(ended))
            note_ends(session, expired)
        return expired

    def release(self, claim: Claim) -> None:
        """Puts a job back into the queue.

        Raises:
            LeaseLostError: The job is no longer this claim's.
        """
        self._write(claim, **_WAITING)

    def retry(self, claim: Claim, how: Retry) -> None:
        """Puts a job whose attempt has failed back into the queue.

        Raises:
            LeaseLostError: The job is no longer this claim's.
        """
        self._write(
            claim,
            **_WAITING,
            not_before=self._clock() + how.delay_s,
            failures=Job.failures + int(how.counted),
            strikes=Job.strikes + int(how.struck),
        )

    def note_latents(self, claim: Claim) -> None:
        """Notes that a job's final latents are stored: from now on it is only decoded.

        Raises:
            LeaseLostError: The job is no longer this claim's.
        """
        self._write(claim, latents_at=func.coalesce(Job.latents_at, self._clock()))

    def record(self, claim: Claim, event: StageEvent) -> None:
        """Notes how far a job is; progress never falls.

        Raises:
            LeaseLostError: The job is no longer this claim's.
        """
        done = percent(event)
        values: dict[str, Any] = {"progress": case((Job.progress < done, done), else_=Job.progress)}
        if event.state is StageState.FINISHED:
            values["stage_durations"] = {
                **self._stage_durations(claim),
                event.stage.value: round(event.seconds, 4),
            }
        else:
            values |= {"stage": event.stage.value, "step": event.index, "total_steps": event.total}
        self._write(claim, **values)

    def complete(self, claim: Claim, results: Mapping[str, Any] = _NO_RESULTS) -> None:
        """Marks a job whose files are stored.

        Args:
            claim: Whose attempt made them.
            results: What the row says of them, by column.

        Raises:
            LeaseLostError: The job is no longer this claim's.
        """
        values = {"status": COMPLETED, "progress": 100, "completed_at": self._clock()}
        self._write(claim, **values, **results)

    def fail(self, claim: Claim, code: str, message: str) -> None:
        """Ends a job with an error code and a message that clients may read.

        Raises:
            LeaseLostError: The job is no longer this claim's.
        """
        self._write(claim, **_failure(code, message, self._clock()))

    def _stage_durations(self, claim: Claim) -> dict[str, float]:
        with self._session() as session:
            durations = session.scalar(select(Job.stage_durations).where(*self._mine(claim)))
        if durations is None:
            raise _lost(claim)
        return durations

    def _mine(self, claim: Claim) -> Sequence[Any]:
        return (
            Job.id == claim.job_id,
            Job.owner == self._owner,
            Job.attempts == claim.attempt,
            Job.status == IN_PROGRESS,
        )

    def _write(self, claim: Claim, **values: Any) -> None:
        written = update(Job).where(*self._mine(claim)).values(values).returning(Job.number)
        with self._session.begin() as session:
            if session.scalar(written) is None:
                raise _lost(claim)
            if values.get("status") in (COMPLETED, FAILED):
                note_ends(session, [claim.job_id])


_WAITING: dict[str, Any] = {
    "status": QUEUED,
    "owner": None,
    "lease_until": None,
    "stage": None,
    "step": None,
    "total_steps": None,
    # What an attempt did is lost with it, unless it came as far as the latents.
    "progress": case((Job.latents_at.is_(None), 0), else_=DENOISED_PERCENT),
    "stage_durations": case(
        (Job.latents_at.is_(None), literal({}, JSON)), else_=Job.stage_durations
    ),
}


def _failure(code: str, message: str, at_s: float) -> dict[str, Any]:
    return {
        "status": FAILED,
        "completed_at": at_s,
        "error_code": code,
        "error_message": message,
    }


def _lost(claim: Claim) -> LeaseLostError:
    return LeaseLostError(f"{claim.job_id} is no longer this gateway's (attempt {claim.attempt})")
