"""Benchmark results as they are committed: `{"rows": [...]}`, one row per case that was measured.

A new measurement of a case replaces the old one. Names carry units; GiB is 2**30 bytes, GB 10**9.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from model.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where and when a row was measured.

    Args:
        gpu: Name of the GPU, or "cpu".
        driver: Of NVIDIA; empty on a CPU.
        versions: Of torch and what else the figures depend on.
        date: UTC, ISO 8601.
        commit: Of this project.
        host_cpus: Cores of the machine.
    """

    KEY: ClassVar[tuple[str, ...]] = ()

    gpu: str
    driver: str
    versions: Mapping[str, str]
    date: str
    commit: str
    host_cpus: int

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells the case from others."""
        return tuple(getattr(self, name) for name in self.KEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class DitRow(Origin):
    """One forward of one expert on one gang.

    Args:
        model: Name of the sizes.
        gpus: Ranks.
        cfg_parallel: Whether each half of them works on one prompt, and the halves side by side;
            else all are one Ulysses group.
        size: Pixels of a frame.
        frames: Pixel frames.
        attention: Kernel that ran.
        sharding: What was done with the weights.
        experts: Held by each rank; where both do not fit whole, one alone tells of the speed.
        compile: Whether the blocks went through torch.compile.
        dtype: Of weights and matrix products.
        seconds: One forward, the slowest rank, median of several; with `cfg_parallel` half of a
            guided step, whose two run side by side.
        tflops: Rate of the whole gang.
        matmul_tflops: Rate of one rank in a square matrix product: the highest of those measured
            at the start and after each case of the same processes, so that the ratio errs low.
        matmul_after_tflops: The same rate just after this case, on a GPU that is hot.
        ratio: `tflops` over the ranks' matmul rates together.
        peak_gib: Most memory that one rank had allocated.
        kept_modulations: Share of the blocks whose camera modulation was kept for the clip.
        kernel_shares: Of the time on the device, by kind of kernel.
        pair_seconds: One pass for two prompts, as the denoiser makes it: a whole solver step.
        silent_seconds: One forward with the collectives replaced by nothing.
        silent_pair_seconds: One pass for two prompts without the collectives.
        together_pair_seconds: One pass for two prompts that do not take turns, where they can.
        gather_s: Fetching the expert's weights, once per phase of a clip.
        compile_cold_s: First forward with an empty compile cache, less a later one.
    """

    KEY: ClassVar[tuple[str, ...]] = (
        *("gpu", "gpus", "cfg_parallel", "model", "size", "frames"),
        *("attention", "sharding", "experts", "compile", "dtype"),
    )

    model: str
    gpus: int
    cfg_parallel: bool
    size: str
    frames: int
    attention: str
    sharding: str
    experts: int
    compile: bool
    dtype: str
    seconds: float
    tflops: float
    matmul_tflops: float
    matmul_after_tflops: float
    ratio: float
    peak_gib: float
    kept_modulations: float
    kernel_shares: Mapping[str, float] = field(default_factory=dict)
    pair_seconds: float | None = None
    silent_seconds: float | None = None
    silent_pair_seconds: float | None = None
    together_pair_seconds: float | None = None
    gather_s: float | None = None
    compile_cold_s: float | None = None

    @property
    def step_s(self) -> float:
        """A solver step: both prompts in one pass where that was measured, else one by one."""
        return self.pair_seconds or 2 * self.seconds

    @property
    def exposed_communication(self) -> float | None:
        """Share of a solver step that waits for other ranks, where it was measured."""
        if self.pair_seconds is None or self.silent_pair_seconds is None:
            return None
        return (self.pair_seconds - self.silent_pair_seconds) / self.pair_seconds

    @property
    def exposed_alone(self) -> float | None:
        """The same of a forward of one prompt, behind which nothing can hide."""
        if self.silent_seconds is None:
            return None
        return (self.seconds - self.silent_seconds) / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeRow(Origin):
    """Encoding the first frame, or decoding a clip, on one GPU.

    Args:
        direction: "encode" or "decode".
        size: Pixels of a frame.
        frames: Pixel frames.
        dtype: Of weights and arithmetic.
        compile: Whether it went through torch.compile.
        seconds: Median of several.
        psnr_db: Against float32 on the same device; None for float32 itself.
        peak_gib: Most memory allocated.
        first_s: The first run, compilation included.
    """

    KEY: ClassVar[tuple[str, ...]] = ("gpu", "direction", "size", "frames", "dtype", "compile")

    direction: str
    size: str
    frames: int
    dtype: str
    compile: bool
    seconds: float
    psnr_db: float | None
    peak_gib: float
    first_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRow(Origin):
    """Both experts from disk onto a gang.

    Args:
        gpus: Ranks.
        sharding: What was done with the weights.
        dtype: Of the weights on the device.
        bytes: Read from disk, each byte once.
        seconds: Until the last rank has its weights.
        raw_gb_per_s: Plain reading of the same files, or of the first of them, by several threads.
        ratio: Share of that rate.
        cached_before: Share of the files in memory before the load; None where it is not known.
        slice_gib: Weights of one rank.
        host_gib: Host memory that a rank took at its peak, above what it had before.
    """

    KEY: ClassVar[tuple[str, ...]] = ("gpu", "gpus", "sharding", "dtype")

    gpus: int
    sharding: str
    dtype: str
    bytes: int
    seconds: float
    raw_gb_per_s: float
    ratio: float
    cached_before: float | None
    slice_gib: float
    host_gib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class E2eRow(Origin):
    """One clip over HTTP.

    Args:
        gpus: Ranks of the gang.
        cfg_parallel: Whether each half of them works on one prompt.
        size: Pixels of a frame.
        frames: Pixel frames.
        steps: Solver steps, two forwards each.
        attention: That the gang chose.
        sharding: That the gang chose.
        compile: Of the gang's settings.
        wall_s: From the request to the last byte of the MP4.
        forward_s: One forward on such a gang, measured alone.
        encode_s: First frame through the VAE, measured alone.
        decode_s: Latents through the VAE, measured alone.
        ratio: `wall_s` without encoding and decoding, over all forwards one by one.
        ratio_to_pairs: The same over passes for two prompts, as the denoiser makes them.
        ready_s: Start of the server until it could make a clip.
        load_s: Of that, the gang's weights.
        warm_up_s: Of that, the gang's first clips, compilation included.
        second_ready_s: The first of these when the server was started once more, and so found
            every compiled kernel.
        second_gang_s: Of that, the gang's start: processes, imports, weights and first clips.
        second_load_s: The second.
        second_warm_up_s: The third.
        second_waited_s: Until when each part was waited for in that start.
        stage_durations: Seconds of each stage as the server told them.
    """

    KEY: ClassVar[tuple[str, ...]] = (
        *("gpu", "gpus", "cfg_parallel", "size", "frames", "steps"),
        *("attention", "sharding", "compile"),
    )

    gpus: int
    cfg_parallel: bool
    size: str
    frames: int
    steps: int
    attention: str
    sharding: str
    compile: bool
    wall_s: float
    forward_s: float
    encode_s: float
    decode_s: float
    ratio: float
    ratio_to_pairs: float
    ready_s: float
    load_s: float
    warm_up_s: float
    stage_durations: Mapping[str, float]
    second_ready_s: float | None = None
    second_gang_s: float | None = None
    second_load_s: float | None = None
    second_warm_up_s: float | None = None
    second_waited_s: Mapping[str, float] | None = None

    @property
    def second_start_s(self) -> float | None:
        """The second start without its loading."""
        if self.second_ready_s is None or self.second_load_s is None:
            return None
        return self.second_ready_s - self.second_load_s


Row = TypeVar("Row", bound=Origin)


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """The rows of a file; none where there is no file.

    Raises:
        ConfigurationError: It holds something else.
    """
    if not path.exists():
        return []
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"]
        return [kind(**row) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} holds no {kind.__name__} rows: {error}") from error


def add_rows(path: Path, rows: Iterable[Row], kind: type[Row]) -> list[Row]:
    """Adds rows to a file, in the place of older ones of the same case; processes take turns.

    Returns:
        All rows of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone_in(path.parent):
        merged = {row.key: row for row in (*read_rows(path, kind), *rows)}
        ordered = [merged[key] for key in sorted(merged)]
        text = json.dumps({"rows": [asdict(row) for row in ordered]}, indent=2)
        # Replaced as a whole: whoever copies it meanwhile has the old rows or the new ones.
        beside = path.with_suffix(".new")
        beside.write_text(text + "\n")
        beside.replace(path)
    return ordered


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process writes rows into a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
