"""A simulation's outcome as the few numbers that people compare."""

from dataclasses import dataclass

import numpy as np

from autoscaling.simulator.clairvoyant import Clairvoyant
from autoscaling.simulator.engine import Outcome
from autoscaling.simulator.trace import Floats

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Waits:
    """From arrival to the start of denoising, in seconds."""

    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    max_s: float

    @classmethod
    def of(cls, wait_s: Floats) -> "Waits":
        """Summarises the waits of all clips, [N]."""
        p50_s, p95_s, p99_s = np.quantile(wait_s, (0.5, 0.95, 0.99)).tolist()
        return cls(float(wait_s.mean()), p50_s, p95_s, p99_s, float(wait_s.max()))


@dataclass(frozen=True, slots=True)
class Report:
    """One policy on one trace.

    Args:
        wait: From arrival to the start of denoising.
        hours: From the trace's start to the end of the last clip.
        gpu_hours: Of all gangs, loading and idling included.
        loading_gpu_hours: Of those, spent on loading.
        lost_gpu_hours: Of those, spent on clips that a lost node broke off.
        utilisation: Share of the GPU-hours that finished clips took.
        scale_ups: Times that the target rose.
        scale_downs: Times that it fell.
        reversals: Times that it turned from rising to falling or back; thrash.
        peak_gangs: Most gangs at once.
        lost_runs: Runs of a clip that a lost node broke off.
        cost: GPU-hours times the price of one.
        num_due: Clips with a deadline.
        deadline_hits: Share of these that were done in time; None without any.
    """

    wait: Waits
    hours: float
    gpu_hours: float
    loading_gpu_hours: float
    lost_gpu_hours: float
    utilisation: float
    scale_ups: int
    scale_downs: int
    reversals: int
    peak_gangs: int
    lost_runs: int
    cost: float
    num_due: int
    deadline_hits: float | None


def summarise(outcome: Outcome, price_per_gpu_hour: float) -> Report:
    """The report of a simulation.

    Args:
        outcome: What it saw.
        price_per_gpu_hour: In any currency.
    """
    steps = np.sign(np.diff(np.array(outcome.targets, dtype=np.int64)))
    gpu_hours = outcome.held_gpu_s / _HOUR_S
    return Report(
        wait=Waits.of(outcome.wait_s),
        hours=outcome.end_s / _HOUR_S,
        gpu_hours=gpu_hours,
        loading_gpu_hours=outcome.loading_gpu_s / _HOUR_S,
        lost_gpu_hours=outcome.lost_gpu_s / _HOUR_S,
        utilisation=outcome.useful_gpu_s / outcome.held_gpu_s,
        scale_ups=int((steps > 0).sum()),
        scale_downs=int((steps < 0).sum()),
        reversals=int((steps[1:] != steps[:-1]).sum()),
        peak_gangs=outcome.peak_gangs,
        lost_runs=outcome.lost_runs,
        cost=gpu_hours * price_per_gpu_hour,
        num_due=outcome.num_due,
        deadline_hits=_share(outcome.num_punctual, outcome.num_due),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What it is compared with, see `Clairvoyant`; costs in GPU-hours."""

    wait: Waits
    plan_gpu_hours: float
    least_gpu_hours: float
    deadline_hits: float | None


def summarise_bounds(known: Clairvoyant) -> Bounds:
    """The report of the clairvoyant's plan."""
    return Bounds(
        wait=Waits.of(known.wait_s),
        plan_gpu_hours=known.plan_gpu_s / _HOUR_S,
        least_gpu_hours=known.least_gpu_s / _HOUR_S,
        deadline_hits=_share(known.num_punctual, known.num_due),
    )
