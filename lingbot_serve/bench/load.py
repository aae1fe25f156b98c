"""`bench load`: both experts from disk onto a gang, against plain reading of the same files."""

import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from lingbot_serve.bench.disk import cached_share, drop_from_cache, raw_read_rate, total_bytes
from lingbot_serve.bench.dit_cases import WeightSharding
from lingbot_serve.bench.host_memory import HostMemoryPeak
from lingbot_serve.bench.ranks import check_gpus, join_ranks, slowest
from lingbot_serve.bench.records import LoadRow, Origin
from lingbot_serve.bench.timing import synchronise
from model.checkpoint.layout import CheckpointPaths, locate_checkpoint
from model.experts import Experts, ExpertSettings, load_experts
from model.parallel.mesh import ParallelMesh
from model.parallel.sharding import Sharding

_GIB = 2**30
_MOST_RAW_BYTES = 16 * 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """How a load is measured.

    Args:
        checkpoint: Weights in a layout that the service reads.
        gpus: Ranks.
        device: "cuda" or "cpu".
        dtype: Of the weights on the device.
    """

    checkpoint: Path
    gpus: int
    device: str
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """What the ranks report."""

    seconds: float
    slice_bytes: float
    host_bytes: float


def run_load(
    settings: LoadSettings,
    shardings: Iterable[WeightSharding],
    origin: Origin,
    on_row: Callable[[LoadRow], None],
) -> None:
    """Reads the files plainly, then loads them with each sharding, each time from the disk.

    Raises:
        CheckpointError: The checkpoint is incomplete.
        ConfigurationError: There are fewer GPUs than ranks.
    """
    check_gpus(settings.gpus, settings.device)
    files = expert_files(locate_checkpoint(settings.checkpoint))
    drop_from_cache(files)
    raw_rate = raw_read_rate(files, most_bytes=_MOST_RAW_BYTES)
    for sharding in shardings:
        drop_from_cache(files)
        cached_before = cached_share(files)
        loaded = _load(settings, sharding)
        on_row(
            LoadRow(
                **asdict(origin),
                gpus=settings.gpus,
                sharding=sharding.value,
                dtype=settings.dtype,
                bytes=total_bytes(files),
                seconds=round(loaded.seconds, 3),
                raw_gb_per_s=round(raw_rate / 1e9, 3),
                ratio=round(total_bytes(files) / loaded.seconds / raw_rate, 4),
                cached_before=cached_before,
                slice_gib=round(loaded.slice_bytes / _GIB, 3),
                host_gib=round(loaded.host_bytes / _GIB, 3),
            )
        )


def expert_files(checkpoint: CheckpointPaths) -> list[Path]:
    """The files of both experts' weights."""
    folders = (checkpoint.high_noise, checkpoint.low_noise)
    return [file for folder in folders for file in sorted(folder.glob("*.safetensors"))]


def _load(settings: LoadSettings, sharding: WeightSharding) -> _Loaded:
    with tempfile.TemporaryDirectory(prefix="lingbot-bench-") as folder:
        arguments = (settings, sharding, folder)
        start_processes(_rank, args=arguments, nprocs=settings.gpus, start_method="spawn")
        return _Loaded(**json.loads((Path(folder) / "loaded.json").read_text()))


def _rank(rank: int, settings: LoadSettings, sharding: WeightSharding, folder: str) -> None:
    device = join_ranks(rank, settings.gpus, settings.device, Path(folder))
    mesh = ParallelMesh.create(
        world_size=settings.gpus, ulysses_degree=settings.gpus, device_type=settings.device
    )
    dist.barrier()
    with HostMemoryPeak() as memory:
        begin_s = perf_counter()
        experts = load_experts(
            locate_checkpoint(settings.checkpoint),
            ExpertSettings(sharding=Sharding(sharding.value)),
            device=device,
            dtype=getattr(torch, settings.dtype),
            mesh=mesh,
        )
        synchronise(device)
        seconds = perf_counter() - begin_s
    figures = (seconds, _local_bytes(experts), memory.grown_bytes)
    worst = _Loaded(
        seconds=slowest(figures[0], device),
        slice_bytes=slowest(figures[1], device),
        host_bytes=slowest(figures[2], device),
    )
    if rank == 0:
        (Path(folder) / "loaded.json").write_text(json.dumps(asdict(worst)))
    dist.destroy_process_group()


def _local_bytes(experts: Experts) -> int:
    """Weights that this rank holds; `to_local` is a DTensor's own part."""
    total = 0
    for dit in (experts.high_noise, experts.low_noise):
        for parameter in dit.parameters():
            own = parameter.to_local() if hasattr(parameter, "to_local") else parameter
            total += own.numel() * own.element_size()
    return total
