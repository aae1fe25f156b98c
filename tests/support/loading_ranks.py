"""Real gloo ranks that load sharded modules together and look at what each of them got."""

from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from model.checkpoint.layout import locate_checkpoint
from model.checkpoint.load import load_module
from model.parallel.parallelize import shard_blocks
from model.text_encoder import TextEncoder

CPU = torch.device("cpu")
PROMPT = "A slow walk along the harbour."


class CountingSource:
    """Seven rows of five that counts the rows handed out."""

    name = "memory"

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight
        self.shapes = {"weight": tuple(weight.shape)}
        self.rows_read = 0

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Tensor:
        rows = self._weight[start:stop]
        self.rows_read += len(rows)
        return rows


def run_everywhere(checkpoint: Path, folder: Path, *, size: int) -> None:
    """Spawns `size` processes; an error of one is raised here."""
    args = (size, checkpoint, folder / "store")
    mp.start_processes(_rank, args=args, nprocs=size, start_method="spawn")


def _rank(rank: int, size: int, checkpoint: Path, store: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=size)
    _check_rows(size, rank)
    _check_text_encoder(checkpoint, size)
    dist.destroy_process_group()


def _check_rows(size: int, rank: int) -> None:
    mesh = init_device_mesh("cpu", (size,))
    weight = torch.arange(35.0).view(7, 5)
    with torch.device("meta"):
        module = nn.Linear(5, 7, bias=False)
    fully_shard(module, mesh=mesh)
    source = CountingSource(weight)
    load_module(module, source, device=CPU)
    expected = torch.chunk(weight, size)[rank]
    assert torch.equal(module.weight.to_local(), expected)
    assert source.rows_read == len(expected)
    out = module(torch.eye(5))
    assert torch.equal(out, weight.T)


def _check_text_encoder(checkpoint: Path, size: int) -> None:
    mesh = init_device_mesh("cpu", (size,))

    def shard(model: nn.Module) -> None:
        shard_blocks(model, model.get_submodule("encoder.block").children(), mesh)

    paths = locate_checkpoint(checkpoint)
    whole = TextEncoder.load(paths, device=CPU, dtype=torch.float32)
    sharded = TextEncoder.load(paths, device=CPU, dtype=torch.float32, shard=shard)
    for prompt in (PROMPT, PROMPT.upper()):
        ours, theirs = sharded.encode(prompt).embeds, whole.encode(prompt).embeds
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
