"""Are clips made sooner under the work policy than under Serve's default, at equal GPU-hours?

    python -m benchmarks.autoscaling

Bursts of clips of mixed sizes, simulated: full clips with some drafts, or mostly drafts of four
steps; two thirds of them have a deadline. Serve's default is shown as it ships, and with its
`target_ongoing_requests` chosen for each trace so that it takes as many GPU-hours as the work
policy, once with the delays that it ships with and once with delays as short as the work policy's.
All of them take waiting clips in the gateways' order, so that the policies alone differ.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from autoscaling.order import OrderSettings
from autoscaling.policy import GangSettings
from autoscaling.simulator.clairvoyant import foresee
from autoscaling.simulator.controllers import Delays, RequestsController, WorkController
from autoscaling.simulator.engine import FleetSettings, simulate
from autoscaling.simulator.report import Report, summarise, summarise_bounds
from autoscaling.simulator.trace import (
    MIXED,
    ClipKind,
    Trace,
    burst_arrivals,
    draw_costs,
    draw_deadlines,
)
from benchmarks.report import write_report

DRAFTS = (
    ClipKind(81, 480, 832, 4, 0.75),
    ClipKind(81, 480, 832, 70, 0.15),
    ClipKind(161, 480, 832, 70, 0.1),
)
MIXES = {"mixed": MIXED, "drafts": DRAFTS}
LOADS = (0.15, 0.3)
PRICE = 1.0  # of a GPU-hour; costs are not reported here
FLEET = FleetSettings(num_gpus=512, gang_size=8)
WORK = GangSettings(
    gpus_per_gang=FLEET.gang_size,
    cold_start_s=FLEET.cold_start_s,
    # Serve's default adds and releases as many as it likes.
    max_step_up=FLEET.max_gangs,
    max_step_down=FLEET.max_gangs,
)
SHIPPED = Delays()
SHORT = Delays(upscale_s=0.0, downscale_s=WORK.surplus_s)
MOST_REQUESTS = 64.0
ORDER = OrderSettings()
FIRST_SEED = 100  # the policy's defaults were chosen on seeds 0 and 1


def bursty_trace(mix: Sequence[ClipKind], load: float, num_jobs: int, seed: int) -> Trace:
    """Bursts that take a share of the fleet on average."""
    rng = np.random.default_rng(seed)
    gpu_s = draw_costs(num_jobs, FLEET.gang_size, rng, mix=mix)
    arrival_s = burst_arrivals(num_jobs, load * FLEET.num_gpus / gpu_s.mean(), rng)
    return Trace(arrival_s, gpu_s, draw_deadlines(arrival_s, gpu_s, FLEET.gang_size, rng))


def under_requests(trace: Trace, target_ongoing_requests: float, delays: Delays) -> Report:
    """Serve's default policy on a trace."""
    controller = RequestsController(target_ongoing_requests, delays)
    return summarise(simulate(trace, FLEET, controller, order=ORDER), PRICE)


def at_gpu_hours(trace: Trace, gpu_hours: float, delays: Delays) -> tuple[float, Report]:
    """Serve's default with the target that takes nearly so many GPU-hours, by bisection."""
    few, many = 0.25, MOST_REQUESTS
    for _ in range(11):
        middle = (few * many) ** 0.5
        if under_requests(trace, middle, delays).gpu_hours > gpu_hours:
            few = middle
        else:
            many = middle
    # The side that takes more: the default is not made to wait for want of GPU-hours.
    return few, under_requests(trace, few, delays)


def compare(trace: Trace) -> dict[str, dict[str, float]]:
    """All policies on one trace."""
    work = summarise(simulate(trace, FLEET, WorkController(WORK), order=ORDER), PRICE)
    equal_target, equal = at_gpu_hours(trace, work.gpu_hours, SHIPPED)
    short_target, short = at_gpu_hours(trace, work.gpu_hours, SHORT)
    bounds = summarise_bounds(foresee(trace, FLEET, order=ORDER))
    return {
        "work": _figures(work),
        "default_as_shipped": _figures(under_requests(trace, 2.0, SHIPPED)),
        "default_at_equal_gpu_hours": {
            "target_ongoing_requests": equal_target,
            **_figures(equal),
        },
        "default_short_delays_at_equal_gpu_hours": {
            "target_ongoing_requests": short_target,
            **_figures(short),
        },
        "all_gangs_loaded": {
            "p95_wait_s": bounds.wait.p95_s,
            "mean_wait_s": bounds.wait.mean_s,
            "deadline_hits": bounds.deadline_hits or 0.0,
            "gpu_hours": bounds.plan_gpu_hours,
        },
    }


def _figures(report: Report) -> dict[str, float]:
    return {
        "p95_wait_s": report.wait.p95_s,
        "mean_wait_s": report.wait.mean_s,
        "deadline_hits": report.deadline_hits or 0.0,
        "gpu_hours": report.gpu_hours,
        "reversals": report.reversals,
    }


def medians(runs: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Per policy, the median of each figure over the traces, and p95 waits against the work's."""
    result: dict[str, dict[str, float]] = {}
    for name, figures in runs[0].items():
        result[name] = {
            figure: round(statistics.median(run[name][figure] for run in runs), 4)
            for figure in figures
        }
        ratios = [run[name]["p95_wait_s"] / run["work"]["p95_wait_s"] for run in runs]
        result[name]["p95_wait_over_work"] = round(statistics.median(ratios), 3)
        result[name]["least_p95_wait_over_work"] = round(min(ratios), 3)
    return result


def main() -> None:
    """Runs the benchmark and writes `docs/benchmarks/autoscaling.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=3_000)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    start_s = time.perf_counter()
    results = {
        f"{name} at load {load}": medians(
            [
                compare(bursty_trace(mix, load, arguments.jobs, seed))
                for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds)
            ]
        )
        for name, mix in MIXES.items()
        for load in LOADS
    }
    write_report(
        "autoscaling",
        {
            "fleet": asdict(FLEET),
            "work_policy": asdict(WORK),
            "num_jobs": arguments.jobs,
            "num_traces": arguments.seeds,
            "first_seed": FIRST_SEED,
            "simulated_in_s": round(time.perf_counter() - start_s, 1),
            "medians": results,
        },
    )


if __name__ == "__main__":
    main()
