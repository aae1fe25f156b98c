"""The work that one gang has before it: what its replica reports to the policy."""

from dataclasses import dataclass, field

from autoscaling.cost import CostModel, StepTimeCorrection
from autoscaling.policy import BUSY, CLIP_GPU_S, REMAINING_GPU_S

_MEAN_WEIGHT = 0.1  # of the newest clip in the mean cost


@dataclass(slots=True)
class _Clip:
    step_s: float  # predicted, not corrected
    num_steps: int
    steps_done: int = 0
    started: bool = False


@dataclass(slots=True)
class GangWork:
    """Follows the clips of a gang from admission to the end, and learns how long steps take.

    Args:
        gang_size: GPUs of the gang.
        model: Predicts a step.
        correction: What earlier steps taught.
    """

    gang_size: int
    model: CostModel = field(default_factory=CostModel)
    correction: StepTimeCorrection = field(default_factory=StepTimeCorrection)
    _clips: dict[str, _Clip] = field(default_factory=dict)
    _mean_gpu_s: float = 0.0  # not corrected

    def admit(self, job_id: str, latent_tokens: int, num_steps: int) -> None:
        """A clip has come to the gang, to run or to wait there.

        Args:
            job_id: Its name until `end`.
            latent_tokens: See `autoscaling.cost.latent_tokens`.
            num_steps: Solver steps.
        """
        clip = _Clip(self.model.step_s(latent_tokens, self.gang_size), num_steps)
        self._clips[job_id] = clip
        gpu_s = clip.step_s * num_steps * self.gang_size
        weight = _MEAN_WEIGHT if self._mean_gpu_s else 1.0
        self._mean_gpu_s += weight * (gpu_s - self._mean_gpu_s)

    def start(self, job_id: str) -> None:
        """The gang begins with a clip."""
        self._clips[job_id].started = True

    def step(self, job_id: str, measured_s: float) -> None:
        """A solver step is done.

        Args:
            job_id: Whose.
            measured_s: What it took.
        """
        clip = self._clips[job_id]
        clip.steps_done += 1
        self.correction = self.correction.learned(predicted_s=clip.step_s, measured_s=measured_s)

    def end(self, job_id: str) -> None:
        """A clip has left the gang: done, failed or cancelled."""
        del self._clips[job_id]

    def stats(self) -> dict[str, float]:
        """What `record_autoscaling_stats` returns, as the policy reads it."""
        gpus = self.gang_size * self.correction.factor
        left_s = sum(c.step_s * max(0, c.num_steps - c.steps_done) for c in self._clips.values())
        return {
            REMAINING_GPU_S: left_s * gpus,
            BUSY: float(any(clip.started for clip in self._clips.values())),
            CLIP_GPU_S: self._mean_gpu_s * self.correction.factor,
        }
