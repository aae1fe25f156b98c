"""A plan as tables and as JSON."""

import json
from dataclasses import asdict

from rich import box
from rich.console import Console
from rich.table import Table

from lingbot_serve.planning.plan import Demand, Machines, Operation, Plan


def print_plan(demand: Demand, machines: Machines, plan: Plan, console: Console) -> None:
    """Shows what it needs, what a clip takes, and what to expect."""
    for table in (_needs(machines, plan), _takes(plan), _expected(demand, plan)):
        console.print(table)
    console.print(f"step time: {plan.times.source}")
    console.print(f"arrivals: {demand.arrivals}; a GPU-hour at {machines.price:g}: assumptions")


def as_json(demand: Demand, machines: Machines, plan: Plan) -> str:
    """Question and answer; the names carry the units."""
    whole = {"demand": asdict(demand), "machines": asdict(machines), **asdict(plan)}
    return json.dumps(whole, indent=2)


def _needs(machines: Machines, plan: Plan) -> Table:
    table = _table("what it needs", "number")
    for name, number in (
        (f"gangs of {machines.gang_size} GPUs", plan.gangs),
        (f"nodes of {machines.node_gpus} GPUs", plan.nodes),
        ("text encoders", plan.text_encoders),
        ("VAE encoders", plan.vae_encoders),
        ("VAE decoders", plan.vae_decoders),
    ):
        table.add_row(name, str(number))
    table.add_row("GPUs that encoders and decoders keep busy", f"{plan.light_gpus:.2f}")
    return table


def _takes(plan: Plan) -> Table:
    times = plan.times
    table = _table("what one clip takes", "seconds")
    for name, seconds in (
        ("a solver step", times.step_s),
        ("denoising", times.denoise_s),
        ("encoding the first frame", times.vae_encode_s),
        ("decoding", times.vae_decode_s),
        ("all of it, waiting for nobody", times.alone_s),
    ):
        table.add_row(name, f"{seconds:.2f}")
    return table


def _expected(demand: Demand, plan: Plan) -> Table:
    slo = "" if demand.slo_s is None else f" within {demand.slo_s:g} s"
    table = _table("what to expect", "all gangs always", "as the policy scales them")
    both = (plan.fixed, plan.scaled)
    rows: list[tuple[str, list[str]]] = [
        ("mean wait (s)", [f"{each.mean_wait_s:.1f}" for each in both]),
        ("p95 wait (s)", [f"{each.p95_wait_s:.1f}" for each in both]),
        ("p95 until done (s)", [f"{each.p95_done_s:.1f}" for each in both]),
        (f"done{slo}", [_share(each) for each in both]),
        ("gangs on average", [f"{each.gangs_mean:.2f}" for each in both]),
        ("GPU-hours an hour", [f"{each.gpu_hours_per_hour:.2f}" for each in both]),
        ("cost of a video minute", [f"{each.cost_per_video_minute:.2f}" for each in both]),
    ]
    for name, cells in rows:
        table.add_row(name, *cells)
    return table


def _share(operation: Operation) -> str:
    return "-" if operation.hits is None else f"{operation.hits:.1%}"


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
