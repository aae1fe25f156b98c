"""What somebody could do who knows the whole trace beforehand."""

import heapq
from dataclasses import dataclass, replace

import numpy as np

from autoscaling.order import OrderSettings
from autoscaling.simulator.controllers import FixedController
from autoscaling.simulator.engine import FleetSettings, simulate
from autoscaling.simulator.queue import punctuality
from autoscaling.simulator.trace import DAY_S, Floats, Trace


@dataclass(frozen=True, slots=True)
class Clairvoyant:
    """Waits with all gangs at hand, a plan that has these waits, and a bound on the GPU-seconds.

    Args:
        wait_s: With all gangs loaded all the time, [N]. First come first served, no policy on these
            GPUs makes any clip wait less; in the gateways' order it may, if only by chance.
        plan_gpu_s: GPU-seconds of a plan with these waits: gangs loaded just in time, and kept
            through a gap where that is cheaper than loading again.
        least_gpu_s: GPU-seconds of the clips alone; no policy needs less.
        num_due: Clips with a deadline.
        num_punctual: Of these, done in time with these waits.
    """

    wait_s: Floats
    plan_gpu_s: float
    least_gpu_s: float
    num_due: int
    num_punctual: int


def foresee(
    trace: Trace, settings: FleetSettings, *, order: OrderSettings | None = None
) -> Clairvoyant:
    """Plans a trace on gangs that never fail.

    The waits are those of all gangs loaded all the time, since more servers never start a clip
    later in a first-come-first-served queue.

    Args:
        trace: The clips.
        settings: The machines; their losses are left out.
        order: How gateways claim waiting clips; None: first come first served.
    """
    gang_s = trace.gpu_s / settings.gang_size
    if order is None:
        starts_s = _earliest_starts(trace.arrival_s, gang_s, settings.max_gangs)
    else:
        starts_s = trace.arrival_s + _waits_of_a_full_fleet(trace, settings, order)
    by_start = np.argsort(starts_s, kind="stable")
    unused_s = _cheapest_gaps(starts_s[by_start], gang_s[by_start], settings.cold_start_s)
    least_gpu_s = float(trace.gpu_s.sum())
    wait_s = starts_s - trace.arrival_s
    num_due, num_punctual = punctuality(trace, wait_s, settings.gang_size)
    return Clairvoyant(
        wait_s=wait_s,
        plan_gpu_s=least_gpu_s + unused_s * settings.gang_size,
        least_gpu_s=least_gpu_s,
        num_due=num_due,
        num_punctual=num_punctual,
    )


def _earliest_starts(arrival_s: Floats, gang_s: Floats, num_gangs: int) -> Floats:
    free_s = [0.0] * num_gangs
    starts: list[float] = []
    for arrived_s, needs_s in zip(arrival_s.tolist(), gang_s.tolist(), strict=True):
        start_s = max(arrived_s, free_s[0])
        heapq.heapreplace(free_s, start_s + needs_s)
        starts.append(start_s)
    return np.array(starts)


def _waits_of_a_full_fleet(trace: Trace, settings: FleetSettings, order: OrderSettings) -> Floats:
    most = settings.max_gangs
    # Nothing changes at a tick.
    full = replace(settings, warm_gangs=most, node_mtbf_s=None, tick_s=10 * DAY_S)
    return simulate(trace, full, FixedController(most), order=order).wait_s


def _cheapest_gaps(starts_s: Floats, gang_s: Floats, cold_start_s: float) -> float:
    """Seconds that gangs load or idle if each clip takes the gang that became free last."""
    busy_until_s: list[float] = []
    idle_since_s: list[float] = []
    unused_s = 0.0
    for start_s, needs_s in zip(starts_s.tolist(), gang_s.tolist(), strict=True):
        while busy_until_s and busy_until_s[0] <= start_s:
            idle_since_s.append(heapq.heappop(busy_until_s))
        gap_s = start_s - idle_since_s.pop() if idle_since_s else cold_start_s
        unused_s += min(gap_s, cold_start_s)
        heapq.heappush(busy_until_s, start_s + needs_s)
    return unused_s
