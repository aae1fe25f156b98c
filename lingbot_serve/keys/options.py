"""Options of `lingbot-serve keys`, and how they are read."""

import re
from pathlib import Path
from typing import Annotated

import typer

from deployments.keys.rights import PRIORITIES, Scope

DATABASE = "Database; left out: data/jobs.sqlite"
QUOTAS = "Quotas; left out: without limit"
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> float:
    """Reads a length of time such as `90d`, `24h` or `0s`.

    Raises:
        typer.BadParameter: It is none.
    """
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no length of time; write 90d, 24h, 30m or 0s")
    return int(match[1]) * float(_UNITS_S[match[2]])


def priority(text: str) -> str:
    """Checks a priority.

    Raises:
        typer.BadParameter: There is none of this name.
    """
    if text not in PRIORITIES:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(PRIORITIES)}")
    return text


Config = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="Configuration whose database it is.",
        rich_help_panel=DATABASE,
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="LINGBOT_DATABASE_URL",
        help="SQLAlchemy's.",
        rich_help_panel=DATABASE,
    ),
]
DatabaseUrlFile = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="Holds the URL.",
        rich_help_panel=DATABASE,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="As `keys ls` shows it.")]
Name = Annotated[str, typer.Argument(help="Whose key it is, for people.")]
Scopes = Annotated[
    list[Scope] | None,
    typer.Option("--scope", help="Repeatable; left out: videos:read and videos:write."),
]
Expires = Annotated[
    float | None,
    typer.Option(parser=seconds, metavar="TIME", help="Such as 90d; left out: never."),
]
RequestsPerMinute = Annotated[
    int | None, typer.Option(min=1, metavar="N", rich_help_panel=QUOTAS, help="At each gateway.")
]
MaxUnfinishedJobs = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", rich_help_panel=QUOTAS, help="That wait or run at a time."),
]
GpuSecondsPerDay = Annotated[
    float | None,
    typer.Option(min=0, metavar="N", rich_help_panel=QUOTAS, help="By forecast; UTC days."),
]
MaxPriority = Annotated[
    str,
    typer.Option(
        parser=priority,
        metavar="|".join(PRIORITIES),
        rich_help_panel=QUOTAS,
        help="Highest priority of a job.",
    ),
]
Grace = Annotated[
    float,
    typer.Option(parser=seconds, metavar="TIME", help="How long the old secret still works."),
]
Finish = Annotated[
    bool, typer.Option("--finish", help="Make no new secret; end all but the newest.")
]
