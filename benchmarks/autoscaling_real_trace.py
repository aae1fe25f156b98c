"""The trace of `benchmarks.autoscaling_real`, and both policies on it in the simulator."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from autoscaling.config import GangScaling
from autoscaling.cost import latent_tokens
from autoscaling.order import OrderSettings
from autoscaling.simulator.controllers import (
    Controller,
    Delays,
    RequestsController,
    WorkController,
)
from autoscaling.simulator.engine import FleetSettings, Outcome, simulate
from autoscaling.simulator.queue import punctuality
from autoscaling.simulator.report import Report, Waits, summarise
from autoscaling.simulator.trace import Trace, burst_arrivals, draw_deadlines

# Faster, and the start of a replica's process would outweigh all else that a cold start takes.
SPEED = 10.0
SIZE, STEPS = "160x96", 4
WIDTH, HEIGHT = 160, 80  # what the gateway makes of this size with the picture that is sent
# Frames of a clip, its share of the jobs; a step of a token takes so long that they need
# 20, 64 and 160 seconds at full speed.
MIX = ((17, 0.5), (61, 0.3), (157, 0.2))
STEP_S = 20 / SPEED / (STEPS * latent_tokens(17, HEIGHT, WIDTH))
NUM_GANGS, LOAD, TRACE_S, SEED = 6, 0.3, 3000 / SPEED, 4
DEADLINES = ((180 / SPEED, 0.33), (900 / SPEED, 0.33), (np.inf, 0.34))
WORK = GangScaling(
    min_replicas=0,
    max_replicas=NUM_GANGS,
    drain_target_s=60 / SPEED,
    cold_start_s=120 / SPEED,
    idle_to_zero_s=900 / SPEED,
    interval_s=10 / SPEED,
    report_interval_s=10 / SPEED,
)
DELAYS = Delays(upscale_s=30 / SPEED, downscale_s=600 / SPEED)
LOOK_BACK_S = 30 / SPEED
ORDERS = {"work": OrderSettings(), "requests": None}
DRAWN = 10  # traces of other seeds, which are simulated alone


@dataclass(frozen=True, slots=True)
class Clip:
    """One job of the trace."""

    arrival_s: float
    num_frames: int
    deadline_s: float | None


def make_trace(seed: int = SEED) -> tuple[Trace, list[Clip]]:
    """The same trace for the simulator and for the real run."""
    rng = np.random.default_rng(seed)
    frames, shares = np.array(MIX).T
    work_s = np.array([clip_s(int(each)) for each in frames])
    num_jobs = int(LOAD * NUM_GANGS * TRACE_S / float(work_s @ shares))
    chosen = rng.choice(len(MIX), size=num_jobs, p=shares)
    gpu_s = work_s[chosen]
    arrival_s = burst_arrivals(
        num_jobs,
        num_jobs / TRACE_S,
        rng,
        quiet_s=500 / SPEED,
        burst_s=160 / SPEED,
        peak_ratio=8.0,
    )
    due_s = draw_deadlines(arrival_s, gpu_s, 1, rng, mix=DEADLINES)
    clips = [
        Clip(arrived, int(num_frames), due - arrived if np.isfinite(due) else None)
        for arrived, num_frames, due in zip(
            arrival_s.tolist(), frames[chosen].tolist(), due_s.tolist(), strict=True
        )
    ]
    return Trace(arrival_s, gpu_s, due_s), clips


def clip_s(num_frames: int) -> float:
    """Seconds that a gang sleeps for a clip of so many frames."""
    return STEP_S * STEPS * latent_tokens(num_frames, HEIGHT, WIDTH)


def fleet(cold_start_s: float) -> FleetSettings:
    """The real run's machines, as the simulator takes them."""
    return FleetSettings(
        num_gpus=NUM_GANGS,
        gang_size=1,
        cold_start_s=cold_start_s,
        tick_s=WORK.report_interval_s,
        look_back_s=LOOK_BACK_S,
        node_gpus=1,
    )


def controller(policy: str, target_requests: float) -> Controller:
    """A new controller of the simulator."""
    if policy == "work":
        return WorkController(WORK.settings(1))
    return RequestsController(target_requests, DELAYS)


def run_simulated(policy: str, target: float, cold_start_s: float, *, seed: int = SEED) -> Outcome:
    """The trace in the simulator, in the order in which this policy's clips are taken."""
    trace, _ = make_trace(seed)
    wanted = controller(policy, target)
    return simulate(trace, fleet(cold_start_s), wanted, order=ORDERS[policy])


def equal_target(gang_s: float, cold_start_s: float, *, seed: int = SEED) -> float:
    """The default's target with which it takes so many gang-seconds, as simulated."""

    def missed_s(target: float) -> float:
        outcome = run_simulated("requests", target, cold_start_s, seed=seed)
        return abs(outcome.held_gpu_s - gang_s)

    return min(np.geomspace(0.3, 6.0, 60).tolist(), key=missed_s)


def summary(trace: Trace, wait_s: Any, elapsed_s: float) -> dict[str, Any]:
    """What both a real and a simulated run are judged by."""
    num_due, num_punctual = punctuality(trace, wait_s, 1)
    return {
        "clips_per_s": len(trace) / elapsed_s,
        "wait": asdict(Waits.of(np.maximum(wait_s, 0.0))),
        "deadline_hits": num_punctual / num_due,
    }


def simulated(
    policy: str, target: float | None, cold_start_s: float, *, seed: int = SEED
) -> dict[str, Any]:
    """The same run in the simulator."""
    trace, _ = make_trace(seed)
    outcome = run_simulated(policy, target or 0.0, cold_start_s, seed=seed)
    report: Report = summarise(outcome, 1.0)
    return summary(trace, outcome.wait_s, outcome.end_s) | {
        "gpu_s": outcome.held_gpu_s,
        "peak_gangs": report.peak_gangs,
    }


def drawn(seed: int, cold_start_s: float) -> dict[str, Any]:
    """Both policies, simulated on a trace of the same kind, at equal gang-seconds."""
    ours = simulated("work", None, cold_start_s, seed=seed)
    target = equal_target(ours["gpu_s"], cold_start_s, seed=seed)
    default = simulated("requests", target, cold_start_s, seed=seed)
    return {"seed": seed, "work": short(ours), "requests": short(default)}


def short(run: dict[str, Any]) -> dict[str, Any]:
    """The figures that people compare."""
    return {
        "target_ongoing_requests": run.get("target_ongoing_requests"),
        "gpu_s": run["gpu_s"],
        "p95_wait_s": run["wait"]["p95_s"],
        "mean_wait_s": run["wait"]["mean_s"],
        "deadline_hits": run["deadline_hits"],
    }
