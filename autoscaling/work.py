"""All work that is known: what each clip will cost, how much of it is done, what waits behind."""

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from autoscaling.cost import CostModel, StepTimeCorrection
from autoscaling.followers import FollowerSettings
from autoscaling.policy import Due, GangSettings
from autoscaling.report import WorkReport, most_pressing

_MEAN_CLIPS = 64  # newest clips whose costs make the mean
_STEP_WEIGHT = 0.2  # of the newest step in what is known of its size
_MAX_SIZES = 256  # sizes whose step time is remembered
_REPORT_AGE_S = 15.0  # a queue that was not told for so long has lost its gateways


@dataclass(frozen=True, slots=True)
class ClipWork:
    """What decides about the cost of one clip, and when it must be done.

    Args:
        latent_tokens: See `autoscaling.cost.latent_tokens`.
        num_steps: Solver steps.
        due_at_s: Unix time; None: whenever.
    """

    latent_tokens: int
    num_steps: int
    due_at_s: float | None = None


@dataclass(slots=True)
class _Held:
    work: ClipWork
    steps_done: int = 0
    stepped_s: float | None = None


@dataclass(slots=True)
class StepTimes:
    """Seconds of a solver step by size: measured where that size has run, else predicted.

    Args:
        gang_size: GPUs of a gang.
        model: Predicts a step.
        correction: What all measured steps taught about the model.
    """

    gang_size: int
    model: CostModel = field(default_factory=CostModel)
    correction: StepTimeCorrection = field(default_factory=StepTimeCorrection)
    _measured_s: OrderedDict[int, float] = field(default_factory=OrderedDict)

    def step_s(self, latent_tokens: int) -> float:
        """Seconds that a step of this size takes."""
        known = self._measured_s.get(latent_tokens)
        predicted_s = self.model.step_s(latent_tokens, self.gang_size) * self.correction.factor
        return predicted_s if known is None else known

    def learn(self, latent_tokens: int, measured_s: float) -> None:
        """Takes in one measured step."""
        predicted_s = self.model.step_s(latent_tokens, self.gang_size)
        self.correction = self.correction.learned(predicted_s=predicted_s, measured_s=measured_s)
        known = self._measured_s.pop(latent_tokens, measured_s)
        self._measured_s[latent_tokens] = known + _STEP_WEIGHT * (measured_s - known)
        while len(self._measured_s) > _MAX_SIZES:
            self._measured_s.popitem(last=False)


@dataclass(slots=True)
class Ledger:
    """Follows the clips that the stages hold and those that wait before them.

    All times are Unix times, given by the caller.

    Args:
        times: Of the gangs' steps.
    """

    times: StepTimes
    _held: dict[str, _Held] = field(default_factory=dict)
    _queue: Sequence[ClipWork] = ()
    _told_s: float = float("-inf")
    _seen: deque[ClipWork] = field(default_factory=lambda: deque(maxlen=_MEAN_CLIPS))

    def admit(self, job_id: str, work: ClipWork) -> None:
        """A clip has come to the stages."""
        self._held[job_id] = _Held(work)
        self._seen.append(work)

    def step(self, job_id: str, steps_done: int, now_s: float) -> None:
        """A clip's gang has finished a step; two of them in a row tell how long one takes."""
        held = self._held[job_id]
        if held.stepped_s is not None and now_s > held.stepped_s and steps_done > held.steps_done:
            measured_s = (now_s - held.stepped_s) / (steps_done - held.steps_done)
            self.times.learn(held.work.latent_tokens, measured_s)
        held.steps_done, held.stepped_s = steps_done, now_s

    def end(self, job_id: str) -> None:
        """A clip needs no gang any more: denoised, failed or cancelled. Twice is once."""
        self._held.pop(job_id, None)

    def tell_queue(self, clips: Sequence[ClipWork], now_s: float) -> None:
        """What waits before the stages, in its order; it replaces what was told before."""
        self._queue, self._told_s = clips, now_s

    def report(
        self, now_s: float, gangs: GangSettings, followers: Mapping[str, FollowerSettings]
    ) -> WorkReport:
        """All of it as the policy takes it."""
        if now_s - self._told_s > _REPORT_AGE_S:
            self._queue = ()
        due: list[Due] = []
        work_gpu_s = 0.0
        for work, steps_left, started in chain(self._held_work(), self._queued_work()):
            gpu_s = self._gpu_s(work, steps_left)
            if work.due_at_s is not None and not started:
                start_in_s = work.due_at_s - now_s - gpu_s / self.times.gang_size
                due.append(Due(start_in_s, work_gpu_s))
            work_gpu_s += gpu_s
        return WorkReport(
            held_clips=len(self._held),
            queued_clips=len(self._queue),
            work_gpu_s=work_gpu_s,
            clip_gpu_s=self._mean_gpu_s(),
            due=most_pressing(due),
            gangs=gangs,
            followers=followers,
        )

    def _mean_gpu_s(self) -> float:
        costs = [self._gpu_s(work, work.num_steps) for work in self._seen]
        return sum(costs) / len(costs) if costs else 0.0

    def _held_work(self) -> Iterator[tuple[ClipWork, int, bool]]:
        for held in self._held.values():
            steps_left = max(0, held.work.num_steps - held.steps_done)
            yield held.work, steps_left, held.stepped_s is not None

    def _queued_work(self) -> Iterator[tuple[ClipWork, int, bool]]:
        for work in self._queue:
            yield work, work.num_steps, False

    def _gpu_s(self, work: ClipWork, num_steps: int) -> float:
        return num_steps * self.times.step_s(work.latent_tokens) * self.times.gang_size
