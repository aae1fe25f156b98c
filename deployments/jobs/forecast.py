"""What awaits jobs: their place, their wait, and whether one more would wait too long."""

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Engine
from sqlalchemy.orm import sessionmaker

from autoscaling.order import starts
from autoscaling.work import ClipWork
from deployments.errors import WaitTooLongError
from deployments.jobs.outlook import UNKNOWN, Outlook
from deployments.jobs.prediction import Predictor
from deployments.jobs.queue import gangs_behind, queue, running, tags_of, whole_order
from deployments.jobs.tables import Job

# However many clients poll, the queue is read once in this time.
_FRESH_S = 1.0
_LEAST_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class _View:
    """Queue and gangs at one moment.

    Args:
        made_s: When, by the monotonic clock.
        clips: All that waits, in order.
        outlooks: Of all that waits or runs, by job.
        start_in_s: When each that waits starts.
        behind_s: When one more behind them would start.
        first_end_s: When the first of those that run ends.
        tags: Order tags of all that waits, sorted.
    """

    made_s: float = float("-inf")
    clips: tuple[ClipWork, ...] = ()
    outlooks: Mapping[str, Outlook] = field(default_factory=dict)
    start_in_s: tuple[float, ...] = ()
    behind_s: float = 0.0
    first_end_s: float = 0.0
    tags: tuple[float, ...] = ()


class Forecast:
    """Foresees by the order in which jobs are claimed and by what such clips took.

    Every call may run in a thread, and reads all that waits at most: `max_queued_jobs` small rows.

    Args:
        engine: From `deployments.jobs.database.open_database`.
        max_in_progress: Says how many jobs the pipeline gets at once, 0 while no gang runs.
        max_wait_s: Predicted wait above which a job is refused; None: none is.
    """

    def __init__(
        self, engine: Engine, *, max_in_progress: Callable[[], int], max_wait_s: float | None
    ) -> None:
        self._session = sessionmaker(engine)
        self._predictor = Predictor(engine)
        self._max_in_progress = max_in_progress
        self._max_wait_s = max_wait_s
        self._lock = threading.Lock()
        self._last = _View()

    def of(self, jobs: Iterable[Job]) -> Mapping[str, Outlook]:
        """The outlook of each of these jobs that is not over, by its id."""
        wanted = [job for job in jobs if not job.is_over]
        if not wanted:
            return {}
        view = self._view()
        return {job.id: view.outlooks.get(job.id, UNKNOWN) for job in wanted}

    def queue(self) -> tuple[ClipWork, ...]:
        """What the jobs that wait will cost, in the order in which they will be taken."""
        return self._view().clips

    def frees_up_in_s(self) -> float:
        """When a job that runs is likely to end."""
        return max(_LEAST_RETRY_S, self._view().first_end_s)

    def admit(self, job: Job) -> None:
        """Predicts what a new job will take, and refuses it if it would wait too long.

        Jobs that come at the same moment do not see each other.

        Raises:
            WaitTooLongError: Says when to come back.
        """
        job.predicted_s = self._predictor.seconds(job.work)
        if self._max_wait_s is None:
            return
        view = self._read()
        with self._session() as session:
            tag = tags_of(session, job, time.time()).order
        ahead = bisect_right(view.tags, tag)
        wait_s = [*view.start_in_s, view.behind_s][ahead]
        if wait_s > self._max_wait_s:
            raise WaitTooLongError(
                f"the video would wait about {wait_s:.0f} s, and {self._max_wait_s:g} s is the "
                "most here; send the request again later",
                retry_after_s=max(_LEAST_RETRY_S, wait_s - self._max_wait_s),
            )

    def _view(self) -> _View:
        with self._lock:
            if time.monotonic() - self._last.made_s > _FRESH_S:
                self._last = self._read()
            return self._last

    def _read(self) -> _View:
        made_s, now_s, limit = time.monotonic(), time.time(), self._max_in_progress()
        gangs = gangs_behind(limit)
        with self._session() as session:
            runs, waits = running(session), queue(session)
        busy_s = [clip.left_s for clip in runs]
        order = whole_order(waits, busy_s=sum(busy_s), gangs=gangs, now_s=now_s)
        work_s = [self._predictor.seconds(clip.work) for clip in order]
        run_starts_s, _ = starts(busy_s, (), gangs)
        begin_s, behind_s = starts(work_s, busy_s, gangs)
        ends_s = [begin + left for begin, left in zip(run_starts_s, busy_s, strict=True)]
        outlooks = {
            clip.job_id: Outlook(place, _known(start + needs, limit))
            for place, (clip, start, needs) in enumerate(
                zip(order, begin_s, work_s, strict=True), start=1
            )
        }
        outlooks |= {
            clip.job_id: Outlook(None, _known(end, limit))
            for clip, end in zip(runs, ends_s, strict=True)
        }
        return _View(
            made_s=made_s,
            clips=tuple(clip.work for clip in order),
            outlooks=outlooks,
            start_in_s=tuple(begin_s),
            behind_s=behind_s,
            first_end_s=min(ends_s, default=0.0),
            tags=tuple(clip.waiting.tags.order for clip in waits),
        )


def _known(eta_s: float, max_in_progress: int) -> float | None:
    """No gang, no end in sight."""
    return round(eta_s, 1) if max_in_progress else None
