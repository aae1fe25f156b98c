"""Options of `lingbot-serve plan`."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

MACHINES = "Machines"


class Arrivals(str, Enum):
    """How the jobs come."""

    POISSON = "poisson"
    BURSTS = "bursts"
    DIURNAL = "diurnal"


JobsPerHour = Annotated[float, typer.Option(min=0.01, help="Clips an hour, on average.")]
Size = Annotated[str, typer.Option(metavar="WxH", help="Of the clips, in pixels.")]
NumFrames = Annotated[int, typer.Option(min=1, help="Of a clip: 4n+1.")]
Steps = Annotated[int, typer.Option(min=1, help="Solver steps of a clip.")]
Slo = Annotated[
    float | None,
    typer.Option(
        min=1,
        metavar="SECONDS",
        help="Within this time of acceptance most clips should be done; left out: the queue must "
        "not grow.",
    ),
]
Share = Annotated[
    float, typer.Option(min=0.01, max=0.9999, help="Of the clips, for which --slo should hold.")
]
ArrivalsName = Annotated[Arrivals, typer.Option(help="How the jobs come; an assumption.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the simulated arrivals.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]

GangSize = Annotated[
    int, typer.Option(min=1, max=64, help="GPUs that make one clip.", rich_help_panel=MACHINES)
]
NodeGpus = Annotated[
    int, typer.Option(min=1, max=64, help="GPUs of a node.", rich_help_panel=MACHINES)
]
Gpu = Annotated[
    str, typer.Option(help="Part of the measured GPUs' name.", rich_help_panel=MACHINES)
]
ColdStart = Annotated[
    float, typer.Option(min=0, help="Seconds until a gang is loaded.", rich_help_panel=MACHINES)
]
Price = Annotated[
    float,
    typer.Option(
        min=0, help="Of a GPU-hour, in any currency; an assumption.", rich_help_panel=MACHINES
    ),
]
Benchmarks = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        exists=True,
        file_okay=False,
        help="With dit.json and vae.json of `bench`; left out: those of this release.",
        rich_help_panel=MACHINES,
    ),
]
