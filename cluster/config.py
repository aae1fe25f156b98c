"""What a gang is made of and how long each part of its life may take."""

from pathlib import Path
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)


class GangConfig(BaseModel):
    """Settings of one gang: checked as a whole, frozen after."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: PositiveInt = Field(default=1, description="Ranks that work on one job together.")
    cfg_parallel: bool = Field(
        default=False,
        description="One half of the gang works on the prompt, the other on the negative prompt.",
    )
    ulysses_degree: PositiveInt = Field(
        default=None,
        validate_default=True,
        description="Ranks that share one sequence; null means all, or a half with cfg_parallel."
        " Must divide size.",
    )
    sharding: Literal["auto", "none", "per_expert", "per_block"] = Field(
        default="auto",
        description="Weights: whole on every rank, or split and gathered per expert or per block."
        " auto: the first of these that leaves room for the work.",
    )
    device: Literal["cpu", "cuda"] = Field(
        default="cpu", description="cuda: one GPU per rank and NCCL. cpu: gloo."
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Compute type of the program."
    )
    attention: Literal["auto", "flash_attn_3", "flash_attn", "cudnn", "sdpa"] = Field(
        default="auto", description="Attention kernel; auto takes the fastest that runs here."
    )
    compiled: bool = Field(
        default=False, description="Run the program through torch.compile; for GPUs."
    )
    compile_cache_dir: Path | None = Field(
        default=None,
        description="Folder on every node where compiled code outlives a process, so that the next"
        " start is quick; null: PyTorch's own, under /tmp.",
    )
    cpus_per_rank: PositiveFloat = Field(default=1.0, description="Logical CPUs Ray reserves.")
    gpus_per_rank: float = Field(
        default=1.0,
        gt=0.5,
        le=1,
        description="Share of its GPU that a rank reserves; encoders and decoder may take the rest."
        " Above a half, so that no two ranks share a GPU.",
    )
    controller_cpus: float = Field(
        default=1.0, ge=0, description="Logical CPUs of the process that owns the gang."
    )
    threads_per_rank: PositiveInt | None = Field(
        default=None, description="torch threads of a rank; null leaves Ray's choice."
    )
    placement: Literal["STRICT_PACK", "PACK", "SPREAD", "STRICT_SPREAD"] = Field(
        default="STRICT_PACK", description="Ray placement strategy. STRICT_PACK: one node."
    )
    start_timeout_s: PositiveFloat = Field(
        default=600.0, description="Until every rank has loaded its program."
    )
    first_step_timeout_s: PositiveFloat = Field(
        default=300.0, description="Until the first item of a job: compilation, caches."
    )
    step_timeout_s: PositiveFloat = Field(default=120.0, description="Between two items.")
    collective_timeout_s: PositiveFloat = Field(
        default=1800.0, description="Until torch.distributed itself gives up on a collective."
    )
    max_heal_attempts: PositiveInt = Field(
        default=3, description="Restarts of the ranks that may fail in a row."
    )

    @field_validator("ulysses_degree", mode="before")
    @classmethod
    def _whole_gang_unless_given(cls, value: object, info: ValidationInfo) -> object:
        if value is not None:
            return value
        size: int = info.data.get("size", 1)
        return max(1, size // 2) if info.data.get("cfg_parallel") else size

    @model_validator(mode="after")
    def _check(self) -> "GangConfig":
        if self.cfg_parallel and self.size % 2:
            raise ValueError(
                f"cfg_parallel works in two halves: size {self.size} must be even, or leave it off"
            )
        sharers = self.size // 2 if self.cfg_parallel else self.size
        if sharers % self.ulysses_degree:
            divisors = [d for d in range(1, sharers + 1) if sharers % d == 0]
            half = "half of " if self.cfg_parallel else ""
            raise ValueError(
                f"ulysses_degree {self.ulysses_degree} does not divide {half}size {self.size}: "
                f"take one of {divisors}"
            )
        if self.first_step_timeout_s < self.step_timeout_s:
            raise ValueError(
                "first_step_timeout_s must not be below step_timeout_s: "
                "a first step is never the fastest"
            )
        if self.collective_timeout_s <= self.first_step_timeout_s:
            raise ValueError(
                f"collective_timeout_s must exceed first_step_timeout_s "
                f"({self.first_step_timeout_s:g}), or a stuck rank is reported as a failed "
                f"collective of its neighbours"
            )
        return self
