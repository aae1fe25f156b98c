"""Traces: when clips arrive and what they cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoscaling.cost import CostModel, latent_tokens

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What decides about a clip's place beside its arrival and its deadline.

    Args:
        key: Whose it is.
        priority: One of `autoscaling.order.PRIORITIES`.
        predicted_s: Seconds on a gang as they were predicted when it came.
    """

    key: str
    priority: str
    predicted_s: float


@dataclass(frozen=True, slots=True)
class Trace:
    """Clips in the order of their arrival.

    Args:
        arrival_s: When each arrives, never falling, [N].
        gpu_s: GPU-seconds that each takes on a gang, positive, [N].
        due_s: When each should be done, infinite where that does not matter, [N]; None: nowhere.
        asked: Whose each is, [N]; None: all are one key's and predicted rightly.
    """

    arrival_s: Floats
    gpu_s: Floats
    due_s: Floats | None = None
    asked: Sequence[Asked] | None = None

    def __post_init__(self) -> None:
        if self.arrival_s.shape != self.gpu_s.shape or self.arrival_s.ndim != 1:
            raise ValueError(f"a trace of {self.arrival_s.shape} arrivals, {self.gpu_s.shape} jobs")
        if not len(self.arrival_s):
            raise ValueError("a trace needs at least one job")
        if not (np.isfinite(self.arrival_s).all() and np.isfinite(self.gpu_s).all()):
            raise ValueError("arrivals and costs must be finite")
        if (np.diff(self.arrival_s) < 0).any() or self.arrival_s[0] < 0 or (self.gpu_s <= 0).any():
            raise ValueError("arrivals must be sorted and not negative, costs positive")
        if self.due_s is not None and not (self.due_s > self.arrival_s).all():
            raise ValueError("each clip must be due after its arrival")
        if self.asked is not None and len(self.asked) != len(self):
            raise ValueError(f"{len(self)} clips, but {len(self.asked)} were asked for")

    def __len__(self) -> int:
        return len(self.arrival_s)


@dataclass(frozen=True, slots=True)
class ClipKind:
    """One entry of a mix.

    Args:
        num_frames: Pixel frames.
        height: Pixels.
        width: Pixels.
        num_steps: Solver steps.
        share: Of the jobs; the shares of a mix are scaled to 1.
    """

    num_frames: int
    height: int
    width: int
    num_steps: int
    share: float


# An assumption, not a measurement: mostly short clips and drafts, a few that cost 70 times more.
MIXED = (
    ClipKind(81, 480, 832, 20, 0.35),
    ClipKind(81, 480, 832, 70, 0.35),
    ClipKind(161, 480, 832, 70, 0.2),
    ClipKind(81, 720, 1280, 70, 0.07),
    ClipKind(161, 720, 1280, 70, 0.03),
)

# An assumption as well: somebody waits for a third of the clips, a third may take a while.
DEADLINES = ((180.0, 0.33), (900.0, 0.33), (math.inf, 0.34))


def draw_costs(
    num_jobs: int,
    gang_size: int,
    rng: np.random.Generator,
    *,
    mix: Sequence[ClipKind] = MIXED,
    model: CostModel | None = None,
) -> Floats:
    """GPU-seconds of clips drawn from a mix, [num_jobs]."""
    model = model or CostModel()
    costs = [
        model.clip_gpu_s(
            latent_tokens(kind.num_frames, kind.height, kind.width), kind.num_steps, gang_size
        )
        for kind in mix
    ]
    shares = np.array([kind.share for kind in mix])
    return rng.choice(np.array(costs), size=num_jobs, p=shares / shares.sum())


def draw_deadlines(
    arrival_s: Floats,
    gpu_s: Floats,
    gang_size: int,
    rng: np.random.Generator,
    *,
    mix: Sequence[tuple[float, float]] = DEADLINES,
) -> Floats:
    """When clips should be done: their own time on a gang after a patience drawn from a mix.

    Args:
        arrival_s: When each arrives, [N].
        gpu_s: What each takes, [N].
        gang_size: GPUs of a gang.
        rng: Source of chance.
        mix: (patience in seconds, share of the jobs); an infinite one is best effort.

    Returns:
        Moments, infinite for best effort, [N].
    """
    patience_s, shares = np.array(mix).T
    waits_s = rng.choice(patience_s, size=len(arrival_s), p=shares / shares.sum())
    return np.asarray(arrival_s + gpu_s / gang_size + waits_s)


def poisson_arrivals(num_jobs: int, rate_per_s: float, rng: np.random.Generator) -> Floats:
    """Independent arrivals at a constant rate, [num_jobs] in seconds."""
    return np.asarray(np.cumsum(rng.exponential(1 / rate_per_s, num_jobs)))


def burst_arrivals(
    num_jobs: int,
    rate_per_s: float,
    rng: np.random.Generator,
    *,
    quiet_s: float = 3600.0,
    burst_s: float = 600.0,
    peak_ratio: float = 10.0,
) -> Floats:
    """Arrivals whose rate jumps between quiet and burst, both of exponential length.

    Args:
        num_jobs: Arrivals.
        rate_per_s: Mean rate over both.
        rng: Source of chance.
        quiet_s: Mean length of a quiet time.
        burst_s: Mean length of a burst.
        peak_ratio: Rate in a burst over the rate in a quiet time.
    """
    low = rate_per_s * (quiet_s + burst_s) / (quiet_s + burst_s * peak_ratio)
    cycles = math.ceil(1.5 * num_jobs / (rate_per_s * (quiet_s + burst_s))) + 20
    lengths_s = rng.exponential(np.tile([quiet_s, burst_s], cycles))
    rates = np.tile([low, low * peak_ratio], cycles)
    return _with_rate(num_jobs, lengths_s, rates, rng)


def diurnal_arrivals(
    num_jobs: int, rate_per_s: float, rng: np.random.Generator, *, swing: float = 0.9
) -> Floats:
    """Arrivals whose rate follows the sun: a sine over the day, in steps of five minutes.

    Args:
        num_jobs: Arrivals.
        rate_per_s: Mean rate over a day, which begins at its lowest.
        rng: Source of chance.
        swing: Half the distance between the highest and the lowest rate, over the mean.
    """
    step_s = 300.0
    steps = math.ceil(2 * num_jobs / rate_per_s / step_s) + math.ceil(DAY_S / step_s)
    middle_s = (np.arange(steps) + 0.5) * step_s
    rates = rate_per_s * (1 - swing * np.cos(2 * math.pi * middle_s / DAY_S))
    return _with_rate(num_jobs, np.full(steps, step_s), rates, rng)


def _with_rate(num_jobs: int, lengths_s: Floats, rates: Floats, rng: np.random.Generator) -> Floats:
    """Arrivals at piecewise constant rates: a Poisson process of rate 1 in a bent time.

    The pieces are repeated where they are too short.
    """
    unit = np.cumsum(rng.exponential(1.0, num_jobs))
    repeats = math.ceil(unit[-1] / float(lengths_s @ rates))
    lengths_s, rates = np.tile(lengths_s, repeats), np.tile(rates, repeats)
    ends_s = np.concatenate([[0.0], np.cumsum(lengths_s)])
    expected = np.concatenate([[0.0], np.cumsum(lengths_s * rates)])
    return np.asarray(np.interp(unit, expected, ends_s))
