"""Options of `lingbot-serve bench`."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from lingbot_serve.bench.dit_cases import Attention, ModelSize, WeightSharding

CASES = "Cases; each may be given several times"


class Device(str, Enum):
    """Where benchmarks compute."""

    CUDA = "cuda"
    CPU = "cpu"


class Dtype(str, Enum):
    """Of weights and arithmetic."""

    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


class Switch(str, Enum):
    """Whether something is used."""

    ON = "on"
    OFF = "off"


Json = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Adds the rows to this file, case by case."),
]
Commit = Annotated[
    str | None, typer.Option(help="Of this tree, where there is no .git to ask.", envvar="COMMIT")
]
DeviceName = Annotated[Device, typer.Option("--device", help="Where to compute.")]
Checkpoint = Annotated[
    Path, typer.Option(exists=True, file_okay=False, metavar="DIR", help="Weights.")
]

Gpus = Annotated[
    list[int],
    typer.Option(
        default_factory=lambda: [1], min=1, help="Ranks that share one clip.", rich_help_panel=CASES
    ),
]
CfgParallels = Annotated[
    list[Switch],
    typer.Option(
        "--cfg-parallel",
        default_factory=lambda: [Switch.OFF],
        help="Whether each half of the ranks works on one prompt.",
        rich_help_panel=CASES,
    ),
]
Clips = Annotated[
    list[str],
    typer.Option(
        "--clip",
        default_factory=lambda: ["480x832x81"],
        metavar="WxHxF",
        help="Size and frames, 4n+1.",
        rich_help_panel=CASES,
    ),
]
Attentions = Annotated[
    list[Attention],
    typer.Option(
        "--attention",
        default_factory=lambda: [Attention.AUTO],
        help="Kernel.",
        rich_help_panel=CASES,
    ),
]
Shardings = Annotated[
    list[WeightSharding],
    typer.Option(
        "--sharding",
        default_factory=lambda: [WeightSharding.NONE],
        help="What is done with the weights.",
        rich_help_panel=CASES,
    ),
]
Compiles = Annotated[
    list[Switch],
    typer.Option(
        "--compile",
        default_factory=lambda: [Switch.ON],
        help="Whether torch.compile is used.",
        rich_help_panel=CASES,
    ),
]
VaeCompiles = Annotated[
    list[Switch],
    typer.Option(
        "--compile",
        default_factory=lambda: [Switch.OFF],
        help="Whether torch.compile is used.",
        rich_help_panel=CASES,
    ),
]
Dtypes = Annotated[
    list[Dtype],
    typer.Option(
        "--dtype",
        default_factory=lambda: [Dtype.FLOAT32, Dtype.BFLOAT16],
        help="Of weights and arithmetic.",
        rich_help_panel=CASES,
    ),
]

Model = Annotated[ModelSize, typer.Option(help="Sizes of the DiT.")]
DitDtype = Annotated[
    Dtype | None,
    typer.Option("--dtype", help="Left out: bfloat16 on GPUs, float32 on a CPU."),
]
Experts = Annotated[
    int, typer.Option(min=1, max=2, help="Held by each rank; a gang at work holds both.")
]
Repeats = Annotated[int, typer.Option(min=1, help="Timed runs of each case.")]
Pair = Annotated[
    bool, typer.Option("--pair/--no-pair", help="Time passes for two prompts as well.")
]
Profile = Annotated[
    bool, typer.Option("--profile/--no-profile", help="Share of the time by kind of kernel.")
]
Silence = Annotated[
    bool,
    typer.Option("--silence/--no-silence", help="Time without communication as well."),
]
CompileCache = Annotated[
    Path | None,
    typer.Option(
        file_okay=False, metavar="DIR", help="Compiled kernels; left out: empty, then removed."
    ),
]
SecondStart = Annotated[
    bool, typer.Option("--second-start", help="Start the service again and time that as well.")
]

OptionalCheckpoint = Annotated[
    Path | None, typer.Option(exists=True, file_okay=False, metavar="DIR", help="Weights.")
]


class Direction(str, Enum):
    """Halves of the VAE."""

    ENCODE = "encode"
    DECODE = "decode"


Directions = Annotated[
    list[Direction],
    typer.Option(
        "--direction",
        default_factory=lambda: list(Direction),
        help="Which half.",
        rich_help_panel=CASES,
    ),
]
VaeDim = Annotated[
    int, typer.Option(min=4, help="Channels of the random VAE's first level; published: 96.")
]
Gang = Annotated[int, typer.Option("--gpus", min=1, help="Ranks of the gang.")]

Config = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, metavar="FILE", help="YAML settings of the service."),
]
GangSize = Annotated[int | None, typer.Option(min=1, metavar="N", help="Ranks of the gang.")]
Clip = Annotated[str, typer.Option(metavar="WxHxF", help="Size and frames, 4n+1.")]
Steps = Annotated[int, typer.Option(min=1, help="Solver steps.")]
WarmSteps = Annotated[int, typer.Option(min=0, help="Of a clip made before, not timed.")]

RowFolders = Annotated[
    list[Path],
    typer.Argument(exists=True, file_okay=False, metavar="FOLDER...", help="With JSON files."),
]
Root = Annotated[Path, typer.Option(exists=True, file_okay=False, help="The project's tree.")]
Check = Annotated[bool, typer.Option("--check", help="Write nothing; fail if anything would be.")]
