"""`lingbot-serve bench`: what the hardware is asked, and where the answers go.

Torch is imported by the commands themselves: `--help` needs none of it.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from lingbot_serve.bench import options
from lingbot_serve.bench.clips import Clip
from lingbot_serve.bench.dit_cases import (
    DitCase,
    DitSettings,
    ModelSize,
    all_cases,
)
from lingbot_serve.bench.options import Device, Dtype, Switch
from lingbot_serve.bench.records import DitRow, E2eRow, LoadRow, Row, VaeRow, add_rows
from lingbot_serve.bench.report import BENCHMARKS, generate, merge_rows
from lingbot_serve.bench.tables import dit_table, e2e_table, load_table, vae_table
from lingbot_serve.exit_codes import EPILOG, ExitCode, errors_as_exit_codes
from lingbot_serve.settings import ServerFlags, read_settings
from model.errors import ConfigurationError

if TYPE_CHECKING:
    from model.config import DiTConfig

_FILE_WIDTH = 160  # a file or a pipe has no width; every column fits into this one

app = typer.Typer(help="Measure the models, the gang and the whole service.", no_args_is_help=True)


@app.command(epilog=EPILOG)
def dit(
    clip: options.Clips,
    gpus: options.Gpus,
    cfg_parallel: options.CfgParallels,
    attention: options.Attentions,
    sharding: options.Shardings,
    compiled: options.Compiles,
    model: options.Model = ModelSize.BASE_CAM,
    device: options.DeviceName = Device.CUDA,
    dtype: options.DitDtype = None,
    experts: options.Experts = 2,
    repeats: options.Repeats = 3,
    pair: options.Pair = True,
    profile: options.Profile = True,
    silence: options.Silence = True,
    compile_cache: options.CompileCache = None,
    json: options.Json = None,
    commit: options.Commit = None,
) -> None:
    """One forward of the DiT on random weights: every combination of the cases."""
    with errors_as_exit_codes(), _folder(compile_cache) as cache:
        cases = all_cases(
            gpus=gpus,
            cfg_parallel=[each is Switch.ON for each in cfg_parallel],
            attention=attention,
            sharding=sharding,
            compiled=[each is Switch.ON for each in compiled],
            clips=[Clip.parse(text) for text in clip],
        )
        settings = DitSettings(
            model=model.value,
            config=_dit_config(model),
            device=device.value,
            dtype=(dtype or _usual_dtype(device)).value,
            memory_share=1.0,
            experts=experts,
            repeats=repeats,
            pair=pair,
            profile=profile,
            silence=silence,
            compile_cache=str(cache),
        )
        failed = _run_dit(cases, settings, json=json, commit=commit)
    if failed:
        raise typer.Exit(ExitCode.FAILED)


@app.command(epilog=EPILOG)
def vae(
    clip: options.Clips,
    direction: options.Directions,
    dtype: options.Dtypes,
    compiled: options.VaeCompiles,
    checkpoint: options.OptionalCheckpoint = None,
    vae_dim: options.VaeDim = 96,
    device: options.DeviceName = Device.CUDA,
    repeats: options.Repeats = 3,
    json: options.Json = None,
    commit: options.Commit = None,
) -> None:
    """Encode the first frame and decode a clip; without a checkpoint on random weights."""
    import torch

    from lingbot_serve.bench.machine import origin
    from lingbot_serve.bench.vae import VaeSettings, random_vae, run_vae

    rows: list[VaeRow] = []
    with errors_as_exit_codes(), tempfile.TemporaryDirectory(prefix="lingbot-bench-") as folder:
        settings = VaeSettings(
            checkpoint=checkpoint or random_vae(Path(folder) / "checkpoint", vae_dim),
            device=device.value,
            directions=tuple(each.value for each in direction),
            dtypes=tuple(each.value for each in dtype),
            compiled=tuple(each is Switch.ON for each in compiled),
            clips=tuple(Clip.parse(text) for text in clip),
            repeats=repeats,
        )
        run_vae(settings, origin(torch.device(device.value), commit), _keeper(rows, json))
    _show(vae_table(rows))


@app.command(epilog=EPILOG)
def load(
    checkpoint: options.Checkpoint,
    sharding: options.Shardings,
    gpus: options.Gang = 1,
    device: options.DeviceName = Device.CUDA,
    dtype: options.DitDtype = None,
    json: options.Json = None,
    commit: options.Commit = None,
) -> None:
    """Load both experts onto a gang, from the disk, against plain reading of the same files."""
    import torch

    from lingbot_serve.bench.load import LoadSettings, run_load
    from lingbot_serve.bench.machine import origin

    rows: list[LoadRow] = []
    settings = LoadSettings(
        checkpoint=checkpoint,
        gpus=gpus,
        device=device.value,
        dtype=(dtype or _usual_dtype(device)).value,
    )
    with errors_as_exit_codes():
        machine = origin(torch.device(device.value), commit)
        run_load(settings, sharding, machine, _keeper(rows, json))
    _show(load_table(rows))


@app.command(epilog=EPILOG)
def e2e(
    checkpoint: options.OptionalCheckpoint = None,
    config: options.Config = None,
    gang_size: options.GangSize = None,
    clip: options.Clip = "480x832x81",
    steps: options.Steps = 70,
    warm_steps: options.WarmSteps = 2,
    repeats: options.Repeats = 3,
    compile_cache: options.CompileCache = None,
    second_start: options.SecondStart = False,
    json: options.Json = None,
    commit: options.Commit = None,
) -> None:
    """Make one clip over HTTP, against the time of its forwards, encoding and decoding alone."""
    import torch

    from lingbot_serve.bench.e2e import E2eSettings, run_e2e
    from lingbot_serve.bench.machine import origin

    rows: list[E2eRow] = []
    flags = ServerFlags(config=config, checkpoint=checkpoint, gang_size=gang_size)
    with errors_as_exit_codes(), _folder(compile_cache) as cache:
        device = read_settings(flags).pipeline.denoiser.gang.device
        settings = E2eSettings(
            flags=flags,
            clip=Clip.parse(clip),
            steps=steps,
            warm_steps=warm_steps,
            repeats=repeats,
            compile_cache=str(cache),
            second_start=second_start,
        )
        machine = origin(torch.device(device), commit)
        run_e2e(settings, machine, _progress(), _keeper(rows, json))
    _show(e2e_table(rows))


@app.command(epilog=EPILOG)
def merge(folder: options.RowFolders, root: options.Root = Path()) -> None:
    """Take rows that were measured elsewhere over into docs/benchmarks."""
    with errors_as_exit_codes():
        for source in folder:
            for name in merge_rows(source, root / BENCHMARKS):
                print(source / name)


@app.command(epilog=EPILOG)
def report(root: options.Root = Path(), check: options.Check = False) -> None:
    """Write docs/performance.md and the README's figures from docs/benchmarks."""
    with errors_as_exit_codes():
        wanted = generate(root)
        stale = [path for path, text in wanted.items() if not _holds(path, text)]
        if check and stale:
            names = ", ".join(map(str, stale))
            raise ConfigurationError(f"not what docs/benchmarks says: {names}; run bench report")
        for path in stale:
            path.write_text(wanted[path])
            print(path)


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def _run_dit(
    cases: list[DitCase],
    settings: DitSettings,
    *,
    json: Path | None,
    commit: str | None,
) -> list[DitCase]:
    """Runs, shows and stores; returns the cases that failed."""
    import torch

    from lingbot_serve.bench.dit import run_dit
    from lingbot_serve.bench.machine import origin

    rows: list[DitRow] = []
    failed: list[DitCase] = []
    progress = _progress()

    def report(case: DitCase, problem: str) -> None:
        failed.append(case)
        progress.print(f"{case}: {problem}")

    run_dit(
        cases,
        settings,
        origin(torch.device(settings.device), commit),
        on_row=_keeper(rows, json),
        on_failure=report,
    )
    _show(dit_table(rows))
    return failed


def _keeper(rows: list[Row], json: Path | None) -> Callable[[Row], None]:
    """Collects the newest row of each case, and writes it down: a later one may end the process."""

    def keep(row: Row) -> None:
        rows[:] = [*(other for other in rows if other.key != row.key), row]
        if json is not None:
            add_rows(json, [row], type(row))

    return keep


def _progress() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def _show(table: Table) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    console.print(table)


def _dit_config(model: ModelSize) -> "DiTConfig":
    from model.config import DiTConfig

    if model is ModelSize.BASE_CAM:
        return DiTConfig()
    return DiTConfig(dim=128, ffn_dim=256, num_heads=8, num_layers=2, text_dim=64)


def _usual_dtype(device: Device) -> Dtype:
    return Dtype.BFLOAT16 if device is Device.CUDA else Dtype.FLOAT32


@contextmanager
def _folder(path: Path | None) -> Iterator[Path]:
    """The folder that was given, or one that is removed afterwards."""
    if path is not None:
        path.mkdir(parents=True, exist_ok=True)
        yield path.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="lingbot-bench-") as own:
        yield Path(own)
