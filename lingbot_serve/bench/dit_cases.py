"""What `bench dit` measures, and what a rank reports back; free of torch."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby, product
from typing import TYPE_CHECKING

from lingbot_serve.bench.clips import Clip

if TYPE_CHECKING:
    from model.config import DiTConfig


class Attention(str, Enum):
    """Kernels by the names of the gang's setting."""

    AUTO = "auto"
    FLASH_ATTN_3 = "flash_attn_3"
    FLASH_ATTN = "flash_attn"
    CUDNN = "cudnn"
    SDPA = "sdpa"


class WeightSharding(str, Enum):
    """Sharding by the names of the gang's setting."""

    AUTO = "auto"
    NONE = "none"
    PER_EXPERT = "per_expert"
    PER_BLOCK = "per_block"


class ModelSize(str, Enum):
    """Which DiT: the published one, or one that a CPU does in no time."""

    BASE_CAM = "base-cam"
    TINY = "tiny"


@dataclass(frozen=True, slots=True, kw_only=True)
class DitCase:
    """One forward to measure.

    Args:
        gpus: Ranks, which share the clip's tokens.
        cfg_parallel: Whether each half of them works on one prompt.
        attention: Kernel.
        sharding: Of the weights.
        compiled: Whether the blocks go through torch.compile.
        clip: Size and length.
    """

    gpus: int
    cfg_parallel: bool
    attention: Attention
    sharding: WeightSharding
    compiled: bool
    clip: Clip

    @property
    def gang(self) -> tuple[int, bool]:
        """Cases of one gang run in the same processes."""
        return self.gpus, self.cfg_parallel

    @property
    def build(self) -> tuple[int, bool, bool, str, str]:
        """Cases of one build run on the same weights."""
        return *self.gang, not self.compiled, self.sharding.value, self.attention.value

    def __str__(self) -> str:
        compiled = "compiled" if self.compiled else "eager"
        gang = f"{self.gpus} in two halves" if self.cfg_parallel else f"{self.gpus}"
        return f"{self.clip} on {gang}, {self.attention.value}, {self.sharding.value}, {compiled}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What rank 0 found out about a case; the names are those of `records.DitRow`.

    Args:
        attention: The kernel that ran.
        sharding: What was done with the weights.
        matmul_tflops: Of this rank, just after the forwards.
        compile_s: What the first run took longer than later ones.
        start_matmul_tflops: Before the first case.
    """

    attention: str
    sharding: str
    seconds: float
    matmul_tflops: float
    peak_gib: float
    kept_modulations: float
    compile_s: float
    start_matmul_tflops: float = 0.0
    kernel_shares: Mapping[str, float] = field(default_factory=dict)
    pair_seconds: float | None = None
    silent_seconds: float | None = None
    silent_pair_seconds: float | None = None
    together_pair_seconds: float | None = None
    gather_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DitSettings:
    """How cases are measured.

    Args:
        model: What the rows call it.
        config: Sizes of the DiT.
        device: "cuda" or "cpu".
        dtype: Of weights and matrix products.
        memory_share: Part of the GPU's memory that is a rank's.
        experts: Held by every rank; a gang at work holds both, and the memory left decides what
            else is kept.
        repeats: Timed forwards.
        pair: Whether passes for two prompts are timed too.
        profile: Whether one more forward is profiled.
        silence: Whether it is timed without communication as well.
        compile_cache: Folder where compiled kernels are kept.
    """

    model: str
    config: "DiTConfig"
    device: str
    dtype: str
    memory_share: float
    experts: int
    repeats: int
    pair: bool
    profile: bool
    silence: bool
    compile_cache: str


def all_cases(
    *,
    gpus: Iterable[int],
    cfg_parallel: Iterable[bool],
    attention: Iterable[Attention],
    sharding: Iterable[WeightSharding],
    compiled: Iterable[bool],
    clips: Iterable[Clip],
) -> list[DitCase]:
    """Every combination that means something: one rank has nobody to share with."""
    cases = [
        DitCase(gpus=p, cfg_parallel=g, attention=a, sharding=s, compiled=c, clip=clip)
        for p, g, c, s, a, clip in product(gpus, cfg_parallel, compiled, sharding, attention, clips)
        if (p > 1 or s is WeightSharding.NONE) and not (g and p % 2)
    ]
    return sorted(cases, key=lambda case: case.build)


def gangs(cases: Iterable[DitCase]) -> Iterator[list[DitCase]]:
    """Cases by their gang, whose processes they share."""
    for _, members in groupby(cases, key=lambda case: case.gang):
        yield list(members)
