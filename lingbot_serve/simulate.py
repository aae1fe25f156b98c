"""Simulates scaling policies on a trace, for `lingbot-serve simulate`."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from autoscaling.order import OrderSettings
from autoscaling.policy import GangSettings
from autoscaling.simulator.clairvoyant import foresee
from autoscaling.simulator.controllers import Controller, RequestsController, WorkController
from autoscaling.simulator.engine import FleetSettings, simulate
from autoscaling.simulator.recorded import read_trace
from autoscaling.simulator.report import Bounds, Report, summarise, summarise_bounds
from autoscaling.simulator.trace import (
    Floats,
    Trace,
    burst_arrivals,
    diurnal_arrivals,
    draw_costs,
    draw_deadlines,
    poisson_arrivals,
)
from lingbot_serve.simulate_options import OrderName, PolicyName
from model.errors import ConfigurationError

_Arrivals = Callable[[int, float, np.random.Generator], Floats]
_MADE_UP: dict[str, _Arrivals] = {
    "poisson": poisson_arrivals,
    "bursts": burst_arrivals,
    "diurnal": diurnal_arrivals,
}
_HOUR_S = 3600.0
_HEADINGS = ("wait (s)", "p50", "p95", "p99", "hits", "GPU-h", "used", "steps", "turns", "lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSettings:
    """What the command line asks for.

    Args:
        trace: Name of a made-up trace, or a file.
        num_jobs: Clips of a made-up trace.
        load: Mean work of a made-up trace, over what the GPUs can do.
        num_gpus: GPUs there are.
        deadlines: Whether two thirds of a made-up trace's clips have one.
        gang_size: GPUs that make one clip.
        cold_start_s: Until a gang is loaded.
        node_mtbf_h: Mean hours between losses of one node; None: none is lost.
        policy: Which policies are simulated.
        order: In which order waiting clips are taken.
        drain_target_s: Of the work policy.
        target_requests: Of Serve's default policy.
        price: Of a GPU-hour.
        seed: Of the trace and of the losses.
    """

    trace: str
    num_jobs: int
    load: float
    num_gpus: int
    deadlines: bool
    gang_size: int
    cold_start_s: float
    node_mtbf_h: float | None
    policy: PolicyName
    order: OrderName
    drain_target_s: float
    target_requests: float
    price: float
    seed: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Reports by policy, beside what they are compared with."""

    num_jobs: int
    reports: dict[str, Report]
    bounds: Bounds


def compare_policies(settings: SimulationSettings) -> Comparison:
    """Simulates what was asked for.

    Raises:
        ConfigurationError: The trace cannot be read, or no gang fits onto the GPUs.
    """
    try:
        trace = make_trace(settings)
        fleet = _fleet(settings)
    except (OSError, ValueError) as error:
        raise ConfigurationError(str(error)) from error
    order = OrderSettings() if settings.order is OrderName.FAIR else None
    reports = {}
    for name, controller in _controllers(settings, fleet).items():
        outcome = simulate(trace, fleet, controller, seed=settings.seed, order=order)
        reports[name] = summarise(outcome, settings.price)
    bounds = summarise_bounds(foresee(trace, fleet, order=order))
    return Comparison(len(trace), reports, bounds)


def make_trace(settings: SimulationSettings) -> Trace:
    """The trace that was asked for, made up or read.

    Raises:
        OSError: There is no such file.
        ValueError: A line of it cannot be read.
    """
    if settings.trace not in _MADE_UP:
        return read_trace(Path(settings.trace), settings.gang_size)
    rng = np.random.default_rng(settings.seed)
    gpu_s = draw_costs(settings.num_jobs, settings.gang_size, rng)
    rate_per_s = settings.load * settings.num_gpus / float(gpu_s.mean())
    arrival_s = _MADE_UP[settings.trace](settings.num_jobs, rate_per_s, rng)
    if not settings.deadlines:
        return Trace(arrival_s, gpu_s)
    due_s = draw_deadlines(arrival_s, gpu_s, settings.gang_size, rng)
    return Trace(arrival_s, gpu_s, due_s)


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Shows the reports as a table."""
    table = Table(
        title=f"{comparison.num_jobs} clips",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("cost", justify="right", no_wrap=True)
    for name, report in comparison.reports.items():
        wait = report.wait
        table.add_row(
            name,
            *(f"{seconds:.0f}" for seconds in (wait.p50_s, wait.p95_s, wait.p99_s)),
            _hits(report.deadline_hits),
            f"{report.gpu_hours:.0f}",
            f"{report.utilisation:.0%}",
            str(report.scale_ups + report.scale_downs),
            str(report.reversals),
            str(report.lost_runs),
            f"{report.cost:.0f}",
        )
    bounds = comparison.bounds
    waits = (bounds.wait.p50_s, bounds.wait.p95_s, bounds.wait.p99_s)
    table.add_row(
        "clairvoyant",
        *(f"{seconds:.0f}" for seconds in waits),
        _hits(bounds.deadline_hits),
        f"{bounds.plan_gpu_hours:.0f}",
    )
    console.print(table)
    console.print(f"the clips alone take {bounds.least_gpu_hours:.0f} GPU-hours")


def _hits(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def as_json(settings: SimulationSettings, comparison: Comparison) -> str:
    """Settings and reports as JSON; the names carry the units."""
    return json.dumps({"settings": asdict(settings), **asdict(comparison)}, indent=2)


def _fleet(settings: SimulationSettings) -> FleetSettings:
    mtbf_h = settings.node_mtbf_h
    return FleetSettings(
        num_gpus=settings.num_gpus,
        gang_size=settings.gang_size,
        cold_start_s=settings.cold_start_s,
        node_mtbf_s=None if mtbf_h is None else mtbf_h * _HOUR_S,
    )


def _controllers(settings: SimulationSettings, fleet: FleetSettings) -> dict[str, Controller]:
    step = max(4, fleet.max_gangs // 10)
    work = GangSettings(
        gpus_per_gang=settings.gang_size,
        drain_target_s=settings.drain_target_s,
        cold_start_s=settings.cold_start_s,
        max_step_up=step,
        max_step_down=step,
    )
    controllers: dict[str, Controller] = {
        PolicyName.WORK.value: WorkController(work),
        PolicyName.REQUESTS.value: RequestsController(settings.target_requests),
    }
    chosen = settings.policy
    return {n: c for n, c in controllers.items() if chosen in (PolicyName.BOTH, PolicyName(n))}
