"""`lingbot-serve models`: weights onto a disk, and the certainty that they are whole."""

import json as json_format
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from lingbot_serve.exit_codes import errors_as_exit_codes
from lingbot_serve.models.catalogue import CATALOGUE, repo_of
from lingbot_serve.models.hub import Hub, Source
from lingbot_serve.models.inspect import (
    Entry,
    check_content,
    check_model,
    entries,
    require_manifest,
)
from lingbot_serve.models.manifest import Manifest
from lingbot_serve.models.progress import pull_view
from lingbot_serve.models.pull import PullSettings
from lingbot_serve.models.pull import pull as pull_checkpoint

EPILOG = (
    "Exit codes: 0 done, 1 a file is wrong or there is no room, 2 bad input or no such checkpoint, "
    "3 the hub does not answer, 130 interrupted; what has arrived is kept."
)

app = typer.Typer(help="Pull, verify and list weights.", no_args_is_help=True)

ModelsDir = Annotated[
    Path,
    typer.Option(
        metavar="DIR", envvar="LINGBOT_MODELS_DIR", help="Folder that holds one per checkpoint."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
_MODELS_DIR = Path("models")


@app.command(epilog=EPILOG)
def pull(
    name: Annotated[
        str | None, typer.Argument(help=f"Published checkpoint: {', '.join(CATALOGUE)}.")
    ] = None,
    repo: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Any other repository.")
    ] = None,
    source: Annotated[Source, typer.Option(help="Hub to pull from.")] = Source.HUGGING_FACE,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit; left out: the hub's default branch.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder; left out: by name in --models-dir.")
    ] = None,
    models_dir: ModelsDir = _MODELS_DIR,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Paths to leave out; repeatable.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Mirror of the hub; left out: the hub.")
    ] = None,
    json: Json = False,
) -> None:
    """Pull a checkpoint, going on where an earlier pull stopped, and check every byte of it."""
    if name is None and repo is None:
        raise typer.BadParameter("give the name of a published checkpoint, or --repo OWNER/NAME")
    name = name or str(repo).rpartition("/")[2]
    console = _console()
    with errors_as_exit_codes():
        settings = PullSettings(
            repo=repo_of(name, repo, source), revision=revision, exclude=tuple(exclude or ())
        )
        folder = to or models_dir / name
        with pull_view(console) as view:
            manifest = pull_checkpoint(_hub(source, endpoint), settings, folder, view)
        known = CATALOGUE.get(name)
        if known is not None and not known.is_served:
            console.print(f"note: this project does not serve {name} yet ({known.licence})")
    _print_pulled(manifest, folder, as_json=json)


@app.command(epilog=EPILOG)
def verify(
    name: Annotated[str, typer.Argument(help="Checkpoint in --models-dir, or the path of one.")],
    models_dir: ModelsDir = _MODELS_DIR,
    skip_model: Annotated[
        bool, typer.Option("--skip-model", help="Check the content alone, not keys and shapes.")
    ] = False,
    json: Json = False,
) -> None:
    """Read a checkpoint again: content against its manifest, keys and shapes against the models."""
    folder = Path(name) if os.sep in name else models_dir / name
    with errors_as_exit_codes():
        manifest = require_manifest(folder)
        with _console().status(f"reading {decimal(manifest.num_bytes)} at {folder}"):
            check_content(folder, manifest)
        if not skip_model:
            check_model(folder)
    _print_pulled(manifest, folder, as_json=json)


@app.command("ls", epilog=EPILOG)
def list_models(models_dir: ModelsDir = _MODELS_DIR, json: Json = False) -> None:
    """List the checkpoints of a folder: size, revision, state."""
    with errors_as_exit_codes():
        found = list(entries(models_dir))
    if json:
        print(json_format.dumps([asdict(entry) for entry in found], indent=2))
    else:
        _print_table(found)


def _hub(source: Source, endpoint: str | None) -> Hub:
    # Imported here because huggingface_hub takes a while, and no other command needs it.
    if source is Source.MODELSCOPE:
        from lingbot_serve.models.modelscope import ModelScopeHub

        return ModelScopeHub(endpoint)
    from lingbot_serve.models.huggingface import HuggingFaceHub

    return HuggingFaceHub(endpoint)


def _print_pulled(manifest: Manifest, folder: Path, *, as_json: bool) -> None:
    if as_json:
        print(json_format.dumps({"folder": str(folder), **manifest.model_dump(mode="json")}))
    else:
        print(
            f"{folder}: {manifest.repo} at {manifest.revision}, {len(manifest.files)} files, "
            f"{decimal(manifest.num_bytes)}, all as they should be"
        )


def _print_table(found: list[Entry]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("name", "size", "state", "repository", "revision"):
        table.add_column(heading, justify="right" if heading == "size" else "left")
    for entry in found:
        size = decimal(entry.num_bytes)
        if entry.expected_bytes not in (None, entry.num_bytes):
            size += f" of {decimal(entry.expected_bytes or 0)}"
        revision = (entry.revision or "")[:12]
        table.add_row(entry.name, size, entry.state.value, entry.repo or "", revision)
    Console(highlight=False, soft_wrap=True).print(table)


def _console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)
