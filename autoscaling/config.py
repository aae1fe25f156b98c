"""How a stage may grow and shrink; the numbers that Serve's autoscaler takes."""

from pydantic import BaseModel, ConfigDict, Field, model_validator


class StageScaling(BaseModel):
    """Bounds and pace of one stage's replicas.

    Args:
        min_replicas: Replicas that always run.
        max_replicas: Most replicas that may run.
        target_ongoing_requests: Requests one replica should hold; more of them add replicas.
        upscale_delay_s: How long the load must last before a replica is added.
        downscale_delay_s: How long the quiet must last before one is taken away.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(default=1, ge=1)
    target_ongoing_requests: float = Field(default=2.0, gt=0)
    upscale_delay_s: float = Field(default=30.0, ge=0)
    downscale_delay_s: float = Field(default=600.0, ge=0)

    @model_validator(mode="after")
    def _bounds_in_order(self) -> "StageScaling":
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas {self.min_replicas} exceeds max_replicas {self.max_replicas}"
            )
        return self
