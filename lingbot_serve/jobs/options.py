"""Options and arguments of `lingbot-serve jobs`."""

from pathlib import Path
from typing import Annotated

import typer

from lingbot_serve.client.requests import BASE_URL_VARIABLE, DEFAULT_BASE_URL

Url = Annotated[
    str | None,
    typer.Option(
        metavar="URL", envvar=BASE_URL_VARIABLE, help=f"The gateway; left out: {DEFAULT_BASE_URL}."
    ),
]
GangSize = Annotated[
    int, typer.Option(min=1, help="GPUs of a gang, for clips whose record does not say.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line on stdout.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="As `generate` and `ls` print it.")]
JobIds = Annotated[list[str], typer.Argument(metavar="ID...", help="One or more.")]
Limit = Annotated[int, typer.Option(min=1, help="Most jobs.")]
After = Annotated[str | None, typer.Option(metavar="ID", help="Those that follow this one.")]
OldestFirst = Annotated[bool, typer.Option("--oldest-first", help="Instead of the newest.")]
LastEventId = Annotated[
    str, typer.Option(metavar="EVENT", help="With --json: go on after this event's id.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", dir_okay=False, metavar="FILE", help="Left out: ID.mp4."),
]
Variant = Annotated[str, typer.Option(help="Which file, such as video or tensors.")]
