"""What somebody could do who knows the whole trace beforehand."""

import heapq
from dataclasses import dataclass

import numpy as np

from autoscaling.simulator.engine import FleetSettings
from autoscaling.simulator.queue import punctuality
from autoscaling.simulator.trace import Floats, Trace


@dataclass(frozen=True, slots=True)
class Clairvoyant:
    """Two bounds, and a plan that meets the first.

    Args:
        wait_s: No first-come-first-served policy on these GPUs makes any clip wait less, [N].
        plan_gpu_s: GPU-seconds of a plan with these waits: gangs loaded just in time, and kept
            through a gap where that is cheaper than loading again.
        least_gpu_s: GPU-seconds of the clips alone; no policy needs less.
        num_due: Clips with a deadline.
        num_punctual: Of these, done in time with these waits: in this order of service nobody
            has more.
    """

    wait_s: Floats
    plan_gpu_s: float
    least_gpu_s: float
    num_due: int
    num_punctual: int


def foresee(trace: Trace, settings: FleetSettings) -> Clairvoyant:
    """Plans a trace on gangs that never fail.

    The waits are those of all gangs loaded all the time, since more servers never start a clip
    later in a first-come-first-served queue.

    Args:
        trace: The clips.
        settings: The machines; their losses are left out.
    """
    gang_s = trace.gpu_s / settings.gang_size
    starts_s = _earliest_starts(trace.arrival_s, gang_s, settings.max_gangs)
    unused_s = _cheapest_gaps(starts_s, gang_s, settings.cold_start_s)
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
