"""Processes of a benchmark: one per GPU, or one per rank on a CPU; no Ray."""

import os
from pathlib import Path

import torch
import torch.distributed as dist

from model.errors import ConfigurationError


def join_ranks(rank: int, size: int, device_type: str, folder: Path) -> torch.device:
    """Makes this process one rank: its device, and the default process group.

    Args:
        rank: 0 to size - 1.
        size: Ranks.
        device_type: "cuda" (NCCL) or "cpu" (gloo).
        folder: Empty, and the same for all: where they meet.
    """
    on_gpu = device_type == "cuda"
    device = torch.device("cuda", rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // size))
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=size,
        device_id=device if on_gpu else None,
    )
    return device


def slowest(value: float, device: torch.device) -> float:
    """The largest of all ranks' values."""
    values = torch.tensor([value], dtype=torch.float64, device=device)
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return float(values.item())


def check_gpus(size: int, device_type: str) -> None:
    """Refuses more ranks than there are GPUs.

    Raises:
        ConfigurationError: There are fewer.
    """
    if device_type == "cuda" and torch.cuda.device_count() < size:
        raise ConfigurationError(
            f"a gang of {size} needs {size} GPUs; here are {torch.cuda.device_count()}"
        )
