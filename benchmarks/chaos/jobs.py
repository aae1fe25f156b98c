"""What a job goes through, as the database and the logs tell it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from deployments.jobs.tables import IN_PROGRESS, Job

_LOOK_S = 0.01
_STARTED, _ENDED = "gang_job_started", "gang_job_ended"


@dataclass(frozen=True, slots=True)
class Sight:
    """A job's row at one moment.

    Args:
        at_s: When, on this process' monotonic clock.
        job: The row.
    """

    at_s: float
    job: Job

    @property
    def progress(self) -> tuple[object, ...]:
        """What differs once the job has come further; the same while it waits for another try."""
        job = self.job
        if job.is_over:
            return (job.status,)
        if job.status != IN_PROGRESS:
            return ()
        return job.attempts, job.stage, job.step, tuple(sorted(job.stage_durations))


def read_job(engine: Engine, job_id: str) -> Job:
    """A job's row as it is now, past any gateway; raises if it is lost."""
    with Session(engine, expire_on_commit=False) as session:
        return session.scalars(select(Job).where(Job.id == job_id)).one()


def wait_until_over(engine: Engine, job_id: str, *, timeout_s: float) -> Job:
    """Polls a job's row until it is over, or the time is; the row tells which."""
    deadline_s = time.monotonic() + timeout_s
    while not (job := read_job(engine, job_id)).is_over and time.monotonic() < deadline_s:
        time.sleep(5 * _LOOK_S)
    return job


class Watch:
    """What was seen of one job, change by change."""

    def __init__(self, first: Sight) -> None:
        self.sights = [first]

    @property
    def now(self) -> Job:
        """The newest row."""
        return self.sights[-1].job

    def note(self, sight: Sight) -> None:
        """Keeps a row if anything that matters has changed."""
        if sight.progress != self.sights[-1].progress or sight.job.status != self.now.status:
            self.sights.append(sight)

    def finish(self) -> None:
        """Lets the watcher see the last row."""
        deadline_s = time.monotonic() + 1.0
        while not self.now.is_over and time.monotonic() < deadline_s:
            time.sleep(_LOOK_S)

    def resumed_s(self, struck_s: float) -> float | None:
        """Seconds from a strike until the job went on after its longest standstill since."""
        steps = [struck_s]
        for before, after in pairwise(self.sights):
            if after.at_s > struck_s and after.progress not in ((), before.progress):
                steps.append(after.at_s)
        gaps = {later - earlier: later for earlier, later in pairwise(steps)}
        return round(gaps[max(gaps)] - struck_s, 2) if gaps else None

    def ended_s(self, struck_s: float) -> float | None:
        """Seconds from a strike until the job was over."""
        ends_s = [sight.at_s for sight in self.sights if sight.job.is_over]
        return round(ends_s[0] - struck_s, 2) if ends_s else None


@contextmanager
def watching(engine: Engine, job_id: str) -> Iterator[Watch]:
    """Looks at a job's row all the while, from a thread."""
    watch = Watch(Sight(time.monotonic(), read_job(engine, job_id)))
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_S) and not watch.now.is_over:
            try:
                watch.note(Sight(time.monotonic(), read_job(engine, job_id)))
            except OperationalError:  # a busy database; the next look will do
                continue

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join(timeout=10)


@dataclass(frozen=True, slots=True)
class Denoises:
    """How often gangs denoised a job, out of their log.

    Args:
        begun: In all.
        repeated: Of those, the ones begun after one had come to its end, with latents.
    """

    begun: int
    repeated: int


def denoises(logs_dir: Path, job_id: str) -> Denoises:
    """Reads what gangs have logged about a job."""
    events = sorted(_gang_events(logs_dir, job_id))
    starts_s = [at for at, event, _ in events if event == _STARTED]
    ends_s = [at for at, event, error in events if event == _ENDED and error is None]
    repeated = [at for at in starts_s if ends_s and at > ends_s[0]]
    return Denoises(len(starts_s), len(repeated))


def _gang_events(logs_dir: Path, job_id: str) -> Iterator[tuple[str, str, str | None]]:
    for path in logs_dir.glob("worker-*.err"):
        for line in path.read_text(errors="replace").splitlines():
            if job_id in line and (_STARTED in line or _ENDED in line):
                event = json.loads(line)
                # ISO 8601 in UTC sorts as time does.
                yield event["timestamp"], event["event"], event.get("error")
