"""`lingbot-serve artifacts`: the files of jobs, as their owner sees them."""

import json as json_format
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from deployments.artifacts.collector import Collector, Reason, Tally
from deployments.artifacts.objects import Objects
from deployments.jobs.database import open_database
from lingbot_serve import options
from lingbot_serve.exit_codes import errors_as_exit_codes
from lingbot_serve.settings import ServerFlags, read_settings

EPILOG = "Exit codes: 0 done, 1 the store or the database does not answer, 2 bad settings."

app = typer.Typer(help="Look after the files of jobs.", no_args_is_help=True)

_MEANINGS: Mapping[Reason, str] = {
    Reason.EXPIRED: "of videos kept for artifacts.expire_after_s",
    Reason.ORPHAN: "of jobs that are no longer there",
    Reason.LEFTOVER: "of jobs that are over and do not name them",
}


@app.callback()
def _group() -> None:
    """Without this, typer would take the only command for the group."""


@app.command(epilog=EPILOG)
def gc(
    config: options.Config = None,
    checkpoint: options.Checkpoint = None,
    delete: Annotated[
        bool, typer.Option("--delete/--dry-run", help="Remove what is found, or only count it.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Find the files that nobody needs any more, as gateways do now and then by themselves."""
    with errors_as_exit_codes():
        gateway = read_settings(ServerFlags(config=config, checkpoint=checkpoint)).gateway
        engine = open_database(gateway.store_url())
        try:
            collector = Collector(
                engine,
                Objects(gateway.artifacts_url),
                forget_after_s=gateway.artifacts.forget_after_s,
            )
            found = collector.collect(delete=delete)
        finally:
            engine.dispose()
    if json:
        files = {reason.value: asdict(tally) for reason, tally in found.items()}
        print(json_format.dumps({"deleted": delete, "files": files}))
    else:
        Console(highlight=False).print(_table(found, delete=delete))


def _table(found: Mapping[Reason, Tally], *, delete: bool) -> Table:
    table = Table(box=box.SIMPLE, title="deleted" if delete else "would delete")
    for column in ("reason", "files", "size", "what"):
        table.add_column(column)
    for reason, tally in found.items():
        size = decimal(tally.num_bytes)
        table.add_row(reason.value, str(tally.num_files), size, _MEANINGS[reason])
    return table
