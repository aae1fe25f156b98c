"""`lingbot-serve plan`: from flags to a plan."""

from pathlib import Path

from rich.console import Console

from lingbot_serve.exit_codes import errors_as_exit_codes
from lingbot_serve.planning import options
from lingbot_serve.planning.plan import Demand, Machines, make_plan
from lingbot_serve.planning.rates import ClipSize, benchmark_folder, clip_times
from lingbot_serve.planning.show import as_json, print_plan
from model.errors import InvalidInputError

_GRID = 16  # pixels of a token's edge
_FRAMES = 4  # pixel frames of a latent frame


def plan(
    jobs_per_hour: options.JobsPerHour,
    size: options.Size = "832x480",
    num_frames: options.NumFrames = 81,
    steps: options.Steps = 70,
    slo: options.Slo = None,
    share: options.Share = 0.95,
    arrivals: options.ArrivalsName = options.Arrivals.POISSON,
    gang_size: options.GangSize = 8,
    node_gpus: options.NodeGpus = 8,
    gpu: options.Gpu = "H200",
    cold_start: options.ColdStart = 120.0,
    price: options.Price = 2.5,
    benchmarks: options.Benchmarks = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Plan gangs, nodes and cost for a load; starts no cluster."""
    with errors_as_exit_codes():
        clip = read_clip(size, num_frames, steps)
        demand = Demand(
            jobs_per_hour=jobs_per_hour,
            clip=clip,
            slo_s=slo,
            share=share,
            arrivals=arrivals.value,
            seed=seed,
        )
        machines = Machines(
            gang_size=gang_size, node_gpus=node_gpus, cold_start_s=cold_start, price=price
        )
        folder: Path = benchmarks or benchmark_folder()
        times = clip_times(clip, gang_size=gang_size, gpu=gpu, folder=folder)
        answer = make_plan(demand, machines, times)
    if json:
        print(as_json(demand, machines, answer))
    else:
        print_plan(demand, machines, answer, Console(highlight=False))


def read_clip(size: str, num_frames: int, num_steps: int) -> ClipSize:
    """The clip that was asked for.

    Raises:
        InvalidInputError: A size or a length that the model cannot make.
    """
    width, cross, height = size.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise InvalidInputError("--size", f"takes WxH such as 832x480, not {size!r}")
    if int(width) < _GRID or int(height) < _GRID:
        raise InvalidInputError("--size", f"{size}: both sides must be {_GRID} pixels or more")
    if (num_frames - 1) % _FRAMES:
        raise InvalidInputError("--num-frames", f"must be 4n+1, such as 81, not {num_frames}")
    return ClipSize(
        width=int(width), height=int(height), num_frames=num_frames, num_steps=num_steps
    )
