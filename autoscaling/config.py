"""How each stage may grow and shrink."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from autoscaling.followers import FollowerSettings
from autoscaling.policy import GangSettings


class ReplicaBounds(BaseModel):
    """Bounds of one stage's replicas.

    Args:
        min_replicas: Replicas that always run.
        max_replicas: Most replicas that may run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _bounds_in_order(self) -> "ReplicaBounds":
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas {self.min_replicas} exceeds max_replicas {self.max_replicas}"
            )
        return self


class GangScaling(ReplicaBounds):
    """Bounds and knobs of the gangs; see `autoscaling.policy.GangSettings` for what each does.

    Args:
        report_interval_s: How often the policy hears of the work.
    """

    drain_target_s: float = Field(default=60.0, gt=0)
    cold_start_s: float = Field(default=120.0, ge=0)
    deadline_share: float = Field(default=0.8, gt=0, le=1)
    patience_s: float | None = Field(default=None, ge=0)
    idle_to_zero_s: float = Field(default=900.0, ge=0)
    max_step_up: int = Field(default=4, ge=1)
    max_step_down: int = Field(default=4, ge=1)
    interval_s: float = Field(default=10.0, ge=0)
    report_interval_s: float = Field(default=5.0, gt=0)

    def settings(self, gpus_per_gang: int) -> GangSettings:
        """The knobs as the policy takes them."""
        knobs = self.model_dump(exclude={"min_replicas", "max_replicas", "report_interval_s"})
        return GangSettings(gpus_per_gang=gpus_per_gang, **knobs)


class StageScaling(ReplicaBounds):
    """Bounds and knobs of a stage that follows the gangs.

    Args:
        clip_s: Seconds that one replica works for one clip.
        utilisation: Share of its time that a replica should be busy.
        patience_s: How long replicas must have been surplus before they are released.
    """

    clip_s: float = Field(default=5.0, gt=0)
    utilisation: float = Field(default=0.7, gt=0, le=1)
    patience_s: float = Field(default=120.0, ge=0)

    def settings(self) -> FollowerSettings:
        """The knobs as the policy takes them."""
        return FollowerSettings(self.clip_s, self.utilisation, self.patience_s)
