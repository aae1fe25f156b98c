"""Options of `lingbot-serve simulate`."""

from enum import Enum
from typing import Annotated

import typer

MACHINES = "Machines"
POLICIES = "Policies"


class PolicyName(str, Enum):
    """Which policies are simulated."""

    WORK = "work"
    REQUESTS = "requests"
    BOTH = "both"


class OrderName(str, Enum):
    """In which order waiting clips are taken."""

    FAIR = "fair"
    FIFO = "fifo"


TraceName = Annotated[
    str,
    typer.Option(
        "--trace",
        metavar="poisson|bursts|diurnal|FILE",
        help="Made up, or a file of JSON lines: arrival_s with gpu_s, or with num_frames, "
        "height, width and num_steps; deadline_s, key, priority, predicted_gpu_s if there are any. "
        "`jobs trace` writes such a file of a server's jobs.",
    ),
]
Jobs = Annotated[int, typer.Option(min=1, help="Clips of a made-up trace.")]
Load = Annotated[
    float,
    typer.Option(min=0.001, max=5, help="Of a made-up trace: mean work over what the GPUs can."),
]
Deadlines = Annotated[
    bool,
    typer.Option(help="Whether two thirds of a made-up trace's clips are due at some time."),
]
Seed = Annotated[int, typer.Option(min=0, help="Of the trace and of the losses.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Price = Annotated[float, typer.Option(min=0, help="Of a GPU-hour, in any currency; an assumption.")]

Gpus = Annotated[int, typer.Option(min=1, help="GPUs there are.", rich_help_panel=MACHINES)]
GangSize = Annotated[
    int, typer.Option(min=1, help="GPUs that make one clip.", rich_help_panel=MACHINES)
]
ColdStart = Annotated[
    float, typer.Option(min=0, help="Seconds until a gang is loaded.", rich_help_panel=MACHINES)
]
NodeMtbf = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        metavar="HOURS",
        help="Mean time between losses of one 8-GPU node; left out: none is lost.",
        rich_help_panel=MACHINES,
    ),
]

Policy = Annotated[
    PolicyName,
    typer.Option(help="The project's, Serve's default, or both.", rich_help_panel=POLICIES),
]
Order = Annotated[
    OrderName,
    typer.Option(
        help="How waiting clips are taken: fair, as gateways do, or first come first served.",
        rich_help_panel=POLICIES,
    ),
]
DrainTarget = Annotated[
    float,
    typer.Option(
        min=1, help="work: seconds in which known work is done.", rich_help_panel=POLICIES
    ),
]
TargetRequests = Annotated[
    float,
    typer.Option(
        min=0.01, help="requests: clips that a gang should hold.", rich_help_panel=POLICIES
    ),
]
