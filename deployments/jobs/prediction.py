"""How long a gang will take for a clip: the cost model, taught by the clips that were made."""

import threading
import time
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import sessionmaker

from autoscaling.cost import latent_tokens
from autoscaling.work import ClipWork, StepTimes
from deployments.jobs.tables import COMPLETED, Job
from deployments.messages import Stage, StageEvent, StageState

_LESSONS = 64  # newest finished jobs that are learned from
_REFRESH_S = 10.0
# For the time before the first clip; afterwards what was measured counts.
_GANG_SIZE = 8


class GangClock:
    """Times a clip's steps on its gang, without its wait for the gang."""

    def __init__(self) -> None:
        self._first: StageEvent | None = None
        self._last: StageEvent | None = None

    def see(self, event: StageEvent) -> None:
        """Takes in what a stage reports."""
        if event.stage is Stage.DENOISER and event.state is StageState.STEP:
            self._first = self._first or event
            self._last = event

    @property
    def clip_s(self) -> float | None:
        """Seconds that all steps of the clip take a gang; None where too few were seen."""
        if self._first is None or self._last is None or self._last.index <= self._first.index:
            return None
        step_s = (self._last.seconds - self._first.seconds) / (self._last.index - self._first.index)
        return step_s * self._last.total if step_s > 0 else None


class Predictor:
    """Predicts from the newest finished jobs, which all gateways share and a restart keeps.

    Every call may run in a thread; one in ten seconds reads the database.

    Args:
        engine: From `deployments.jobs.database.open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        self._session = sessionmaker(engine)
        self._lock = threading.Lock()
        self._times = StepTimes(_GANG_SIZE)
        self._learned_s = float("-inf")

    def seconds(self, work: ClipWork) -> float:
        """Seconds that a gang will take for a clip."""
        with self._lock:
            if time.monotonic() - self._learned_s > _REFRESH_S:
                self._times = self._learn()
                self._learned_s = time.monotonic()
            return work.num_steps * self._times.step_s(work.latent_tokens)

    def _learn(self) -> StepTimes:
        size: tuple[Any, ...] = (Job.num_frames, Job.height, Job.width, Job.num_inference_steps)
        made = select(*size, Job.gang_s).where(Job.status == COMPLETED, Job.gang_s.is_not(None))
        times = StepTimes(_GANG_SIZE)
        with self._session() as session:
            rows = session.execute(made.order_by(Job.number.desc()).limit(_LESSONS)).all()
        for frames, height, width, steps, gang_s in reversed(rows):
            times.learn(latent_tokens(frames, height, width), gang_s / steps)
        return times
