"""What the cost model says of eight GPUs on one host and of two hosts, and how wrong it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autoscaling.cost import latent_tokens
from lingbot_serve.bench.claims import Results
from lingbot_serve.bench.cost_model import (
    ForwardModel,
    fit,
    fitted_rows,
    rank_work,
    relative_error,
)
from lingbot_serve.bench.records import DitRow

STEPS = 70
SHAPES = (("480x832", 81), ("480x832", 161), ("720x1280", 81), ("720x1280", 161))
# Assumed, not measured: one 400 Gb/s adapter per GPU.
NETWORK_BYTES_PER_S = 50e9
LATENT_BYTES = 16 * 4
PATCH = 4  # latent pixels of a token
HOST_GPUS = 8  # that NVLink joins


@dataclass(frozen=True, slots=True)
class Layout:
    """How a gang shares the work.

    Args:
        name: For the table.
        ulysses: Ranks that share one prompt's tokens.
        split_prompts: Whether the two prompts are on different ranks.
        hosts: Machines; prompts are split between them, tokens never.
    """

    name: str
    ulysses: int
    split_prompts: bool
    hosts: int


LAYOUTS = (
    Layout("8 GPUs: Ulysses 8", 8, False, 1),
    Layout("8 GPUs: a prompt each, Ulysses 4", 4, True, 1),
    Layout("2 hosts, 16 GPUs: a prompt each, Ulysses 8", 8, True, 2),
)


@dataclass(frozen=True, slots=True)
class Forecast:
    """One clip on one layout.

    Args:
        layout: How the work is shared.
        size: Pixels of a frame.
        frames: Pixel frames.
        step_s: One solver step.
        clip_s: All steps, without encoding and decoding.
    """

    layout: Layout
    size: str
    frames: int
    step_s: float
    clip_s: float


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A model, what it was fitted to, and how far off it is.

    Args:
        model: The rates.
        rows: Fitted.
        errors: Relative error of each row's forward, in their order.
        held_out: The largest error on the rows of four GPUs when fitted without them; None where
            there are none.
    """

    model: ForwardModel
    rows: list[DitRow]
    errors: list[float]
    held_out: float | None


def fitted_model(results: Results) -> FittedModel | None:
    """Fits the comparable rows of the type of GPU with most of them; None without a profile."""
    fitted = [fitted_rows(results.dit, gpu=gpu) for gpu in results.gpus]
    rows = max(fitted, key=len, default=[])
    if not any(row.kernel_shares for row in rows):
        return None
    sharded = [row for row in results.of(rows[0].gpu).dit if row.sharding == "per_expert"]
    model = fit(rows, sharded)
    return FittedModel(model, rows, [relative_error(model, row) for row in rows], _held_out(rows))


def forecasts(model: ForwardModel) -> Iterator[Forecast]:
    """Every layout and clip, camera modulations kept, which the memory of eight GPUs allows."""
    for layout in LAYOUTS:
        for size, frames in SHAPES:
            step_s = layout_step_s(model, layout, _tokens(size, frames))
            yield Forecast(layout, size, frames, step_s, STEPS * step_s)


def gang_step_s(model: ForwardModel, gpus: int, num_tokens: int) -> float:
    """Seconds of a solver step on a gang; beyond one host its halves take a prompt each."""
    hosts = -(-gpus // HOST_GPUS)
    split = hosts > 1
    layout = Layout(f"{gpus} GPUs", gpus // 2 if split else gpus, split, hosts)
    return layout_step_s(model, layout, num_tokens)


def layout_step_s(model: ForwardModel, layout: Layout, num_tokens: int) -> float:
    """Seconds of a solver step where the work is shared so."""
    work = rank_work(num_tokens, layout.ulysses)
    if not layout.split_prompts:
        return model.pair_s(work)
    between_hosts = layout.hosts > 1
    rate = NETWORK_BYTES_PER_S if between_hosts else model.exchange_bytes_per_s
    return model.forward_s(work) + num_tokens * PATCH * LATENT_BYTES / rate


def _tokens(size: str, frames: int) -> int:
    width, height = (int(side) for side in size.split("x"))
    return latent_tokens(frames, height, width)


def _held_out(rows: Sequence[DitRow]) -> float | None:
    largest = max(row.gpus for row in rows)
    kept = [row for row in rows if row.gpus < largest]
    # Without a smaller gang nothing is known of exchanges.
    if not any(row.silent_seconds is not None and row.kernel_shares for row in kept):
        return None
    model = fit(kept)
    errors = [relative_error(model, row) for row in rows if row.gpus == largest]
    return max(errors, key=abs)
