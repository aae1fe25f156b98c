"""The queue in the database: places of new jobs, and what waits and runs, by indexes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, func, or_, select
from sqlalchemy.orm import Session

from autoscaling.cost import latent_tokens
from autoscaling.order import NORMAL, OrderSettings, Tags, Waiting, end_of, in_order, place
from autoscaling.work import ClipWork
from deployments.jobs.tables import IN_PROGRESS, QUEUED, Job
from deployments.messages import Stage

ORDER = OrderSettings()
# Any number will do, as long as nobody else of this database locks by it.
_PLACES_LOCK = 7_316_041_924
_PLACE_COLUMNS: tuple[Any, ...] = (
    Job.number,
    Job.fair_start,
    Job.order_tag,
    Job.predicted_s,
    Job.priority,
    Job.due_at_s,
)
_CLIP_COLUMNS: tuple[Any, ...] = (
    Job.id,
    Job.not_before,
    Job.width,
    Job.height,
    Job.num_frames,
    Job.num_inference_steps,
    Job.latents_at,
)
_RUN_COLUMNS: tuple[Any, ...] = (
    Job.id,
    Job.predicted_s,
    Job.stage,
    Job.step,
    Job.total_steps,
    Job.latents_at,
)


def max_in_progress(num_gangs: int) -> int:
    """Jobs that keep so many gangs busy: each has one and the next at hand, one more encodes, one
    decodes. None go over while no gang runs: there they could only wait, unseen by the policy that
    has to choose how many gangs to wake.
    """
    return 2 * num_gangs + 2 if num_gangs else 0


def gangs_behind(num_jobs: int) -> int:
    """Gangs for which so many jobs are handed over; at least one."""
    return max(1, (num_jobs - 2) // 2)


@dataclass(frozen=True, slots=True)
class QueuedClip:
    """One job that waits.

    Args:
        job_id: Which.
        waiting: Its place.
        work: What it will cost, and when it is due.
        not_before: Unix time until which it may not be taken; None: it may be now.
    """

    job_id: str
    waiting: Waiting
    work: ClipWork
    not_before: float | None


@dataclass(frozen=True, slots=True)
class RunningClip:
    """One job that was handed over.

    Args:
        job_id: Which.
        predicted_s: Seconds that it takes a gang.
        denoised: Share that its gang has done, in [0, 1].
    """

    job_id: str
    predicted_s: float
    denoised: float

    @property
    def left_s(self) -> float:
        """Seconds that it still needs a gang."""
        return self.predicted_s * (1.0 - self.denoised)


def lock_places(session: Session) -> None:
    """Lets one new job after the other take its place, until this transaction ends.

    Two that came at once would otherwise start at the same place of their flow, and a key that
    sends many at once would be served before its turn.
    """
    if session.connection().dialect.name == "sqlite":
        session.connection().exec_driver_sql("BEGIN IMMEDIATE")
    else:
        session.connection().exec_driver_sql(f"SELECT pg_advisory_xact_lock({_PLACES_LOCK})")


def tags_of(session: Session, job: Job, now_s: float) -> Tags:
    """The place that a job takes if it is added now.

    Args:
        session: Of the transaction.
        job: The new job; its key, priority and predicted seconds count.
        now_s: Unix time.
    """
    next_one = select(Job.fair_start).where(_may_be_taken(now_s)).order_by(*_BY_TAG).limit(1)
    served = session.scalar(next_one)
    if served is None:
        served = session.scalar(select(func.max(Job.fair_start))) or 0.0
    key_id, priority = job.key_id or "", job.priority or NORMAL  # not set before it is written
    flow = select(Job.fair_start, Job.predicted_s).where(
        Job.key_id == key_id, Job.priority == priority
    )
    last = session.execute(flow.order_by(Job.fair_start.desc()).limit(1)).first()
    end = None if last is None else end_of(last.fair_start, last.predicted_s or 0.0, priority)
    return place(
        served=served,
        flow_end=end,
        predicted_s=job.predicted_s or 0.0,
        priority=priority,
        settings=ORDER,
    )


def next_jobs(session: Session, gangs: int, count: int, now_s: float) -> list[int]:
    """The numbers of the jobs to take next, in order.

    Args:
        session: Of the transaction.
        gangs: Gangs that share all work.
        count: Jobs to name at most.
        now_s: Unix time.
    """
    head = select(*_PLACE_COLUMNS).where(_may_be_taken(now_s)).order_by(*_BY_TAG)
    window = [_waiting(row) for row in session.execute(head.limit(ORDER.window))]
    busy_s = sum(clip.left_s for clip in running(session)) if window else 0.0
    ordered = in_order(window, now_s=now_s, busy_s=busy_s, gangs=gangs, settings=ORDER)
    return [each.number for each in ordered[:count]]


def running(session: Session) -> list[RunningClip]:
    """What is handed over, in the order in which gangs get to it."""
    query = select(*_RUN_COLUMNS).where(Job.status == IN_PROGRESS)
    rows = session.execute(query.order_by(Job.started_at, Job.number)).all()
    clips = [RunningClip(row.id, row.predicted_s or 0.0, _denoised(row)) for row in rows]
    return sorted(clips, key=lambda clip: clip.denoised == 0.0)


def queue(session: Session) -> list[QueuedClip]:
    """All that waits, by tag."""
    query = select(*_PLACE_COLUMNS, *_CLIP_COLUMNS).where(Job.status == QUEUED)
    return [_queued(row) for row in session.execute(query.order_by(*_BY_TAG))]


def whole_order(
    clips: Sequence[QueuedClip], *, busy_s: float, gangs: int, now_s: float
) -> list[QueuedClip]:
    """The order in which all that waits will be taken as things stand; back-offs come last."""
    ready = [each for each in clips if (each.not_before or 0.0) <= now_s]
    later = [each for each in clips if (each.not_before or 0.0) > now_s]
    by_number = {each.waiting.number: each for each in ready}
    head = [each.waiting for each in ready[: ORDER.window]]
    ordered = in_order(head, now_s=now_s, busy_s=busy_s, gangs=gangs, settings=ORDER)
    return [*(by_number[each.number] for each in ordered), *ready[ORDER.window :], *later]


_BY_TAG = (Job.order_tag, Job.number)


def _may_be_taken(now_s: float) -> ColumnElement[bool]:
    return (Job.status == QUEUED) & or_(Job.not_before.is_(None), Job.not_before <= now_s)


def _waiting(row: Row[Any]) -> Waiting:
    tags = Tags(row.fair_start, row.order_tag)
    return Waiting(row.number, tags, row.predicted_s or 0.0, row.priority, row.due_at_s)


def _queued(row: Row[Any]) -> QueuedClip:
    tokens = latent_tokens(row.num_frames, row.height, row.width)
    # With its latents kept it needs no gang any more.
    steps_left = row.num_inference_steps if row.latents_at is None else 0
    work = ClipWork(tokens, steps_left, row.due_at_s)
    return QueuedClip(row.id, _waiting(row), work, row.not_before)


def _denoised(row: Row[Any]) -> float:
    if row.stage == Stage.VAE_DECODER.value or row.latents_at is not None:
        return 1.0
    if row.stage == Stage.DENOISER.value and row.step and row.total_steps:
        return float(min(1.0, row.step / row.total_steps))
    return 0.0
