"""The figures that must hold, each with its limits and what the committed rows say of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lingbot_serve.bench.records import DitRow, E2eRow, LoadRow, Origin, VaeRow

MODEL = "base-cam"
GIB = 2**30
GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All committed rows."""

    dit: list[DitRow] = field(default_factory=list)
    vae: list[VaeRow] = field(default_factory=list)
    load: list[LoadRow] = field(default_factory=list)
    e2e: list[E2eRow] = field(default_factory=list)

    @property
    def origins(self) -> list[Origin]:
        """Where rows come from, all of them."""
        return [*self.dit, *self.vae, *self.load, *self.e2e]

    @property
    def gpus(self) -> list[str]:
        """Types of GPU that anything was measured on."""
        return sorted({row.gpu for row in self.origins} - {"cpu"})

    def of(self, gpu: str) -> "Results":
        """The rows of one type of GPU."""
        return Results(
            dit=[row for row in self.dit if row.gpu == gpu],
            vae=[row for row in self.vae if row.gpu == gpu],
            load=[row for row in self.load if row.gpu == gpu],
            e2e=[row for row in self.e2e if row.gpu == gpu],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One line of the table.

    Args:
        what: Is measured.
        must: As it is written.
        aim: As it is written; empty where there is none.
        measured: As it is written; empty where no row tells.
        holds: Whether the must is met; None where no row tells.
        aimed: Whether the aim is met.
        row: That tells.
    """

    what: str
    must: str
    aim: str
    measured: str
    holds: bool | None
    aimed: bool | None
    row: Origin | None


def all_claims(results: Results) -> list[Claim]:
    """Every line, measured or not.

    Args:
        results: Of one type of GPU.
    """
    return [*_forwards(results), *_gangs(results), *_clips(results), *_loads(results)]


def best_forward(
    rows: Iterable[DitRow], *, gpus: int, size: str, frames: int, sharding: str = "none"
) -> DitRow | None:
    """The fastest forward of a clip on a gang of one Ulysses group.

    A rank of the service holds both experts; on cards that cannot, whole weights are one expert's.
    """
    wanted = [
        row
        for row in rows
        if (row.model, row.gpus, row.size, row.frames, row.sharding)
        == (MODEL, gpus, size, frames, sharding)
        and not row.cfg_parallel
    ]
    return min(wanted, key=lambda row: (-row.experts, row.seconds), default=None)


def _forwards(results: Results) -> Iterator[Claim]:
    for size, frames, must, aim in (
        ("480x832", 81, 0.80, 0.93),
        ("480x832", 161, 0.82, 0.95),
        ("720x1280", 81, 0.80, 0.90),
    ):
        row = best_forward(results.dit, gpus=1, size=size, frames=frames)
        yield _claim(
            f"one GPU, {size}, {frames} frames, one forward: rate over matmul rate",
            row,
            lambda row: row.ratio,
            at_least=(must, aim),
            text=lambda row: f"{row.ratio:.3f} ({row.seconds:.3f} s, {row.attention}{_held(row)})",
        )


def _gangs(results: Results) -> Iterator[Claim]:
    clip = {"size": "480x832", "frames": 161}
    alone = best_forward(results.dit, gpus=1, size="480x832", frames=161)
    for gpus in (2, 4):
        row = best_forward(results.dit, gpus=gpus, size="480x832", frames=161)
        both = None if alone is None else row
        yield _claim(
            f"{gpus} GPUs, {clip['frames']} frames: T1 / (P*TP), guided step",
            both,
            lambda row: _scaling(alone, row),
            at_least=(0.90, 0.95),
            text=lambda row: (
                f"{_scaling(alone, row):.3f} "
                f"(one forward: {_alone(alone, row):.3f}{_held(row)}{_otherwise(alone, row)})"
            ),
        )
    known = [row for row in results.dit if row.exposed_communication is not None]
    yield _claim(
        "exposed communication, 4 GPUs, 161 frames, guided step",
        largest_gang(known, frames=161),
        lambda row: row.exposed_communication or 0.0,
        at_most=(0.05, 0.02),
        text=lambda row: (
            f"{row.exposed_communication:.1%} "
            f"(one forward: {row.exposed_alone:.1%}{_held(row)}){_gang(row)}"
        ),
    )
    yield _sharded(results)


def largest_gang(rows: Iterable[DitRow], *, frames: int, sharding: str = "none") -> DitRow | None:
    """The fastest forward of 480x832 on four GPUs; where no such gang was at hand, on two."""
    rows = list(rows)
    found = [
        best_forward(rows, gpus=gpus, size="480x832", frames=frames, sharding=sharding)
        for gpus in (4, 2)
    ]
    return next((row for row in found if row is not None), None)


def _held(row: DitRow) -> str:
    """Says that the rank held less than one of the service does."""
    return "" if row.experts == 2 else ", one expert held"


def _gang(row: DitRow | E2eRow) -> str:
    """Says that a row is of another gang than the claim's."""
    known = {1: ", on one GPU", 4: ""}
    return known.get(row.gpus, f", on {row.gpus} GPUs")


def _scaling(alone: DitRow | None, row: DitRow) -> float:
    assert alone is not None
    return alone.step_s / (row.gpus * row.step_s)


def _alone(alone: DitRow | None, row: DitRow) -> float:
    assert alone is not None
    return alone.seconds / (row.gpus * row.seconds)


def _otherwise(alone: DitRow | None, row: DitRow) -> str:
    """Says that the GPU alone was measured on another day, or was a faster or slower one."""
    assert alone is not None
    day = "" if alone.date == row.date else f"; the one of {alone.date}, the gang of {row.date}"
    faster = row.matmul_tflops / alone.matmul_tflops
    rate = "" if abs(faster - 1) < 0.03 else f"; matmul rate of its GPUs {faster:.2f} of the one's"
    return day + rate


def _sharded(results: Results) -> Claim:
    shared = largest_gang(results.dit, frames=81, sharding="per_expert")
    gpus = 4 if shared is None else shared.gpus
    whole = best_forward(results.dit, gpus=gpus, size="480x832", frames=81)

    def slower(row: DitRow) -> float:
        assert whole is not None
        clip_s = 70 * row.step_s + 2 * (row.gather_s or 0.0)
        return clip_s / (70 * whole.step_s) - 1

    return _claim(
        "FSDP-4 (per_expert) against whole weights, 81 frames, 70 steps",
        None if whole is None else shared,
        slower,
        at_most=(0.03, 0.01),
        text=lambda row: f"{slower(row):+.1%} ({row.gather_s or 0:.2f} s a gather){_gang(row)}",
    )


def _clips(results: Results) -> Iterator[Claim]:
    clips = [row for row in results.e2e if (row.size, row.frames) == ("480x832", 81)]
    whole = [row for row in clips if row.steps == 70]
    yield _claim(
        "4 GPUs, clip over HTTP, 81 frames, 70 steps: less encode and decode, over 140 forwards",
        max(whole, key=lambda row: (row.gpus, row.date), default=None),
        lambda row: row.ratio,
        at_most=(1.05, 1.02),
        text=lambda row: (
            f"{row.ratio:.3f} ({row.wall_s:.1f} s, {row.sharding}){_gang(row)}{_since(row, clips)}"
        ),
    )
    decodes = [
        row
        for row in results.vae
        if (row.direction, row.size, row.frames) == ("decode", "480x832", 81)
        and row.psnr_db is not None
        and row.psnr_db >= 45
    ]
    yield _claim(
        "VAE decode, 480x832, 81 frames, at 45 dB or more against float32",
        min(decodes, key=lambda row: row.seconds, default=None),
        lambda row: row.seconds,
        at_most=(1.3, 0.8),
        text=lambda row: f"{row.seconds:.2f} s, {row.psnr_db:.1f} dB ({row.dtype})",
        unit=" s",
    )


def _since(row: E2eRow, clips: Iterable[E2eRow]) -> str:
    """Tells of the clips that other gangs have made on a later day, in fewer steps perhaps."""
    later = sorted((clip for clip in clips if clip.date > row.date), key=lambda clip: -clip.gpus)
    return "".join(
        f"; {clip.ratio:.3f}{_gang(clip)} ({clip.steps} steps, {clip.date})" for clip in later
    )


def _loads(results: Results) -> Iterator[Claim]:
    loads = [row for row in results.load if row.bytes > 50 * GB]
    yield _claim(
        "load, over the raw read rate of the same disk",
        max(loads, key=lambda row: row.ratio, default=None),
        lambda row: row.ratio,
        at_least=(0.6, 0.85),
        text=lambda row: f"{row.ratio:.2f} ({row.bytes / GB / row.seconds:.2f} GB/s)",
    )
    excess = [row for row in loads if row.sharding == "per_expert"] or loads
    yield _claim(
        "host memory of a rank while loading, above its slice",
        max(excess, key=lambda row: row.host_gib - row.slice_gib, default=None),
        lambda row: (row.host_gib - row.slice_gib) * GIB / GB,
        at_most=(2.0, None),
        text=lambda row: f"{row.host_gib:.2f} GiB in all, slice {row.slice_gib:.1f} GiB",
        unit=" GB",
    )
    starts = [row for row in results.e2e if row.second_start_s is not None]
    yield _claim(
        "second start of the service with a warm compile cache, beyond loading",
        max(starts, key=lambda row: (row.date, row.gpus), default=None),
        lambda row: row.second_start_s or 0.0,
        at_most=(30.0, None),
        text=lambda row: (
            f"{row.second_start_s:.1f} s (of which the gang's first clips "
            f"{row.second_warm_up_s:.1f} s{_of_the_gang(row)}; loading {row.second_load_s:.1f} s)"
            f"{_gang(row)}"
        ),
        unit=" s",
    )


def _of_the_gang(row: E2eRow) -> str:
    """The gang's part of the second start, without its loading."""
    if row.second_gang_s is None or row.second_load_s is None:
        return ""
    return f", its whole start {row.second_gang_s - row.second_load_s:.1f} s"


def _claim(
    what: str,
    row: Any,
    value_of: Callable[[Any], float],
    *,
    text: Callable[[Any], str],
    at_least: tuple[float, float | None] | None = None,
    at_most: tuple[float, float | None] | None = None,
    unit: str = "",
) -> Claim:
    (must, aim), sign = (at_least, "≥") if at_least else (at_most or (0.0, None), "≤")
    value = None if row is None else value_of(row)

    def met(limit: float | None) -> bool | None:
        if value is None or limit is None:
            return None
        return value >= limit if at_least else value <= limit

    return Claim(
        what=what,
        must=f"{sign} {must:g}{unit}",
        aim="" if aim is None else f"{sign} {aim:g}{unit}",
        measured="" if row is None else text(row),
        holds=met(must),
        aimed=met(aim),
        row=row,
    )
