"""How many gangs, nodes and other replicas a load needs, by simulating them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from autoscaling.policy import GangSettings
from autoscaling.simulator.controllers import Controller, FixedController, WorkController
from autoscaling.simulator.engine import FleetSettings, Outcome, simulate
from autoscaling.simulator.trace import (
    Floats,
    Trace,
    burst_arrivals,
    diurnal_arrivals,
    poisson_arrivals,
)
from lingbot_serve.planning.rates import ClipSize, ClipTimes
from model.errors import InvalidInputError
from model.types import FPS

ARRIVALS: dict[str, Callable[[int, float, np.random.Generator], Floats]] = {
    "poisson": poisson_arrivals,
    "bursts": burst_arrivals,
    "diurnal": diurnal_arrivals,
}
_HOUR_S = 3600.0
_FEWEST_JOBS, _MOST_JOBS = 500, 100_000
_UTILISATION = 0.7  # of the encoders and the decoder; `autoscaling.followers`
_MOST_GANGS = 20_000
_TICK_S = 10.0  # between two decisions of the policy; a fixed number of gangs needs none


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the service has to do.

    Args:
        jobs_per_hour: Mean rate of clips.
        clip: Their size.
        slo_s: Within this time of acceptance `share` of the clips should be done; None asks only
            that the queue does not grow.
        share: See `slo_s`.
        arrivals: Name in `ARRIVALS`.
        seed: Of the simulated arrivals.
    """

    jobs_per_hour: float
    clip: ClipSize
    slo_s: float | None
    share: float
    arrivals: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """What there is to do it with.

    Args:
        gang_size: GPUs that make one clip.
        node_gpus: GPUs of a node.
        cold_start_s: Until a new gang takes its first clip.
        price: Of a GPU-hour.
    """

    gang_size: int
    node_gpus: int
    cold_start_s: float
    price: float


@dataclass(frozen=True, slots=True)
class Operation:
    """A way to run the gangs, as simulated.

    Args:
        mean_wait_s: From acceptance until a gang takes the clip.
        p95_wait_s: The same for the 95th percentile.
        p95_done_s: From acceptance until the clip is done.
        hits: Share of the clips done within the SLO; None without one.
        gangs_mean: Gangs held on average.
        gpu_hours_per_hour: Of the gangs, the encoders and the decoders.
        cost_per_video_minute: At the given price.
    """

    mean_wait_s: float
    p95_wait_s: float
    p95_done_s: float
    hits: float | None
    gangs_mean: float
    gpu_hours_per_hour: float
    cost_per_video_minute: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer.

    Args:
        times: What one clip takes.
        gangs: Most gangs at a time.
        nodes: Nodes that hold them and the other stages' GPUs.
        text_encoders: Replicas, a GPU each or a share of one.
        vae_encoders: Replicas.
        vae_decoders: Replicas.
        light_gpus: GPUs that these three keep busy, all together.
        fixed: All gangs run all the time.
        scaled: The policy starts and stops them.
    """

    times: ClipTimes
    gangs: int
    nodes: int
    text_encoders: int
    vae_encoders: int
    vae_decoders: int
    light_gpus: float
    fixed: Operation
    scaled: Operation


def make_plan(demand: Demand, machines: Machines, times: ClipTimes) -> Plan:
    """Finds the fewest gangs that serve a demand, and what they cost.

    Args:
        demand: Load and SLO.
        machines: GPUs and price.
        times: Of one clip.

    Raises:
        InvalidInputError: No number of gangs can meet the SLO; it says what a clip alone takes.
    """
    trace = _trace(demand, machines, times)
    gangs = _fewest_gangs(demand, machines, times, trace)
    light_s = (times.text_encode_s, times.vae_encode_s, times.vae_decode_s)
    rate_per_s = demand.jobs_per_hour / _HOUR_S
    # Followers of the policy see the rate at which all gangs take clips, busy as they are at most.
    peak_per_s = gangs / times.denoise_s
    text, encoders, decoders = (max(1, math.ceil(peak_per_s * s / _UTILISATION)) for s in light_s)
    light_gpus = rate_per_s * sum(light_s) / _UTILISATION
    common = (demand, machines, times, trace, light_gpus)
    settings = GangSettings(
        gpus_per_gang=machines.gang_size,
        cold_start_s=machines.cold_start_s,
        max_step_up=max(4, gangs // 10),
        max_step_down=max(4, gangs // 10),
    )
    return Plan(
        times=times,
        gangs=gangs,
        nodes=_nodes(gangs, light_gpus, machines),
        text_encoders=text,
        vae_encoders=encoders,
        vae_decoders=decoders,
        light_gpus=light_gpus,
        fixed=_operation(FixedController(gangs), gangs, *common),
        scaled=_operation(WorkController(settings), gangs, *common),
    )


def _nodes(gangs: int, light_gpus: float, machines: Machines) -> int:
    """Nodes for whole gangs, of which none takes what another node has left over; the encoders and
    the decoder take it.
    """
    per_gang = math.ceil(machines.gang_size / machines.node_gpus)
    nodes = math.ceil(gangs / max(1, machines.node_gpus // machines.gang_size)) * per_gang
    left_over = nodes * machines.node_gpus - gangs * machines.gang_size
    return nodes + max(0, math.ceil((light_gpus - left_over) / machines.node_gpus))


def _trace(demand: Demand, machines: Machines, times: ClipTimes) -> Trace:
    rng = np.random.default_rng(demand.seed)
    # A daily rhythm needs its day, whatever that takes.
    whole_day = math.ceil(24 * demand.jobs_per_hour) if demand.arrivals == "diurnal" else 0
    two_days = min(math.ceil(48 * demand.jobs_per_hour), _MOST_JOBS)
    num_jobs = max(_FEWEST_JOBS, two_days, whole_day)
    arrival_s = ARRIVALS[demand.arrivals](num_jobs, demand.jobs_per_hour / _HOUR_S, rng)
    gpu_s = np.full(num_jobs, times.denoise_s * machines.gang_size)
    if demand.slo_s is None:
        return Trace(arrival_s, gpu_s)
    # The clip must leave the gang in time for its decoding.
    encode_s = max(times.vae_encode_s, times.text_encode_s)
    left_s = demand.slo_s - encode_s - times.vae_decode_s
    if left_s <= times.denoise_s:
        raise InvalidInputError(
            "--slo",
            f"a clip that waits for nobody takes {times.alone_s:.0f} s on a gang of "
            f"{machines.gang_size}; allow more, or take larger gangs, fewer steps or frames",
        )
    return Trace(arrival_s, gpu_s, arrival_s + left_s)


def _fewest_gangs(demand: Demand, machines: Machines, times: ClipTimes, trace: Trace) -> int:
    """By bisection, as more gangs never make a clip wait longer."""
    needed = demand.jobs_per_hour / _HOUR_S * times.denoise_s
    low = math.floor(needed)  # the queue grows without end here
    if low >= _MOST_GANGS:
        raise InvalidInputError(
            "--jobs-per-hour", f"takes {needed:.0f} gangs at least; plan for at most {_MOST_GANGS}"
        )
    high = max(1, low + 1)
    while not _enough(high, demand, machines, trace):
        low, high = high, high + max(1, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        if _enough(middle, demand, machines, trace):
            high = middle
        else:
            low = middle
    return high


def _enough(gangs: int, demand: Demand, machines: Machines, trace: Trace) -> bool:
    if demand.slo_s is None:
        return True
    outcome = _run(FixedController(gangs), gangs, machines, trace, warm=True)
    return outcome.num_punctual >= demand.share * outcome.num_due


def _run(
    controller: Controller, gangs: int, machines: Machines, trace: Trace, *, warm: bool
) -> Outcome:
    fleet = FleetSettings(
        num_gpus=gangs * machines.gang_size,
        gang_size=machines.gang_size,
        cold_start_s=machines.cold_start_s,
        node_gpus=machines.gang_size,  # so many gangs, whatever the nodes; none is lost here
        tick_s=_HOUR_S if warm else _TICK_S,
    )
    return simulate(trace, replace(fleet, warm_gangs=gangs if warm else 0), controller)


def _operation(
    controller: Controller,
    gangs: int,
    demand: Demand,
    machines: Machines,
    times: ClipTimes,
    trace: Trace,
    light_gpus: float,
) -> Operation:
    warm = isinstance(controller, FixedController)
    outcome = _run(controller, gangs, machines, trace, warm=warm)
    mean_s, p95_s = float(outcome.wait_s.mean()), float(np.quantile(outcome.wait_s, 0.95))
    gangs_mean = outcome.held_gpu_s / machines.gang_size / outcome.end_s
    gpus = gangs_mean * machines.gang_size + light_gpus
    made_minutes = demand.jobs_per_hour * (demand.clip.num_frames / FPS / 60)
    return Operation(
        mean_wait_s=mean_s,
        p95_wait_s=p95_s,
        p95_done_s=p95_s + times.alone_s,
        hits=outcome.num_punctual / outcome.num_due if outcome.num_due else None,
        gangs_mean=gangs_mean,
        gpu_hours_per_hour=gpus,
        cost_per_video_minute=gpus * machines.price / made_minutes,
    )
