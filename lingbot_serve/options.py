"""The command line's options: type, help and where `--help` shows them."""

from pathlib import Path
from typing import Annotated

import typer

from deployments.keys.settings import AuthMode
from lingbot_serve.client.requests import API_KEY_VARIABLE
from model.types import Solver

SAMPLING = "Sampling; what is left out takes the server's preset"
CLUSTER = "Cluster"

Image = Annotated[
    Path, typer.Option(exists=True, dir_okay=False, metavar="FILE", help="First frame.")
]
Output = Annotated[Path, typer.Option(dir_okay=False, metavar="FILE", help="MP4 to write.")]
Tensors = Annotated[
    Path | None,
    typer.Option(dir_okay=False, metavar="FILE", help="Safetensors of latents and frames."),
]
Prompt = Annotated[str | None, typer.Option(metavar="TEXT", help="What to show.")]
PromptFile = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, metavar="FILE", help="The prompt as a file."),
]
NegativePrompt = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What not to show; left out: as published.")
]
Camera = Annotated[
    Path | None,
    typer.Option(
        exists=True, file_okay=False, metavar="DIR", help="Holds poses.npy and intrinsics.npy."
    ),
]
Server = Annotated[
    str | None, typer.Option(metavar="URL", help="Ask this server; start no cluster.")
]
ApiKey = Annotated[
    str | None,
    typer.Option(metavar="KEY", envvar=API_KEY_VARIABLE, help="Where the server asks for one."),
]
CanaryServer = Annotated[str, typer.Option("--server", metavar="URL", help="The gateway.")]
CanaryTimeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="The job is cancelled after this.")
]

Size = Annotated[
    str | None,
    typer.Option(
        metavar="WxH",
        help="An area; the aspect is the image's. Published: 480x832.",
        rich_help_panel=SAMPLING,
    ),
]
NumFrames = Annotated[
    int | None,
    typer.Option(help="4n+1, 16 a second. Published: 81.", rich_help_panel=SAMPLING),
]
Steps = Annotated[
    int | None, typer.Option(help="Solver steps. Published: 70.", rich_help_panel=SAMPLING)
]
SolverName = Annotated[
    Solver | None, typer.Option(help="Published: unipc.", rich_help_panel=SAMPLING)
]
Shift = Annotated[
    float | None,
    typer.Option(help="Of the sigma schedule. Published: 10.", rich_help_panel=SAMPLING),
]
Guidance = Annotated[
    str | None,
    typer.Option(
        metavar="HIGH,LOW",
        help="Of the high- and the low-noise expert. Published: 5,5.",
        rich_help_panel=SAMPLING,
    ),
]
Boundary = Annotated[
    float | None,
    typer.Option(
        help="Where the high-noise expert hands over. Published: 0.947.", rich_help_panel=SAMPLING
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Of the noise.", rich_help_panel=SAMPLING)]

Checkpoint = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        metavar="DIR",
        help="Weights, in the published or the diffusers layout.",
        rich_help_panel=CLUSTER,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="YAML settings; see examples/.",
        rich_help_panel=CLUSTER,
    ),
]
GangSize = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Ranks that denoise one clip.", rich_help_panel=CLUSTER),
]
Ulysses = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="P", help="Ranks that share one sequence.", rich_help_panel=CLUSTER
    ),
]
ShardingName = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="Weights over the gang: auto, none, per_expert or per_block.",
        rich_help_panel=CLUSTER,
    ),
]
Host = Annotated[str | None, typer.Option(help="Address to listen on.", rich_help_panel=CLUSTER)]
Auth = Annotated[
    AuthMode | None,
    typer.Option(
        help="Whether calls need an API key; auto: no, and only this machine can call.",
        rich_help_panel=CLUSTER,
    ),
]
Port = Annotated[
    int | None, typer.Option(min=1, max=65535, help="To listen on.", rich_help_panel=CLUSTER)
]
