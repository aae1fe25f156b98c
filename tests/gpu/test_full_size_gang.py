"""The 18.5 B expert on real GPUs: gangs of 1, 2 and 4 give the same forward to bf16 rounding.

The yardstick is the rounding itself: how far the same forward in bf16 lies from float32. Gangs
differ from one GPU only in the order of sums, so they must lie closer to it than that.
"""

import os
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from model.attention import AttentionBackend
from model.checkpoint.load import load_module
from model.config import DiTConfig
from model.denoiser import build_dit
from model.parallel.mesh import ParallelMesh
from model.parallel.parallelize import shard_dit
from tests.support.random_weights import RandomSource

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(540),
    pytest.mark.skipif(torch.cuda.device_count() < 1, reason="needs a CUDA GPU with 80 GB"),
]

LATENT = (5, 60, 104)  # 17 frames of 480x832: 7,800 tokens
GANGS = [  # world size, sharded, dtype
    (1, False, "float32"),
    (1, False, "bfloat16"),
    (2, False, "bfloat16"),
    (4, False, "bfloat16"),
    (4, True, "bfloat16"),
]


def name_of(world_size: int, fsdp: bool, dtype: str) -> str:
    return f"{world_size}-{fsdp}-{dtype}"


def possible() -> list[tuple[int, bool, str]]:
    return [gang for gang in GANGS if gang[0] <= torch.cuda.device_count()]


@pytest.fixture(scope="module")
def flows(tmp_path_factory):
    out = tmp_path_factory.mktemp("flows")
    for gang in possible():
        mp.start_processes(_rank, args=(gang, str(out)), nprocs=gang[0], start_method="spawn")
    return {gang: torch.load(out / f"{name_of(*gang)}.pt") for gang in possible()}


def test_gangs_differ_less_than_bf16_rounding(flows):
    exact, alone = flows[GANGS[0]], flows[GANGS[1]]
    rounding = error(alone, exact)
    print(f"bf16 against float32 on one GPU: {rounding:.2e}")
    differences = {gang: error(flows[gang], alone) for gang in possible()[2:]}
    for (world_size, fsdp, _), difference in differences.items():
        print(f"{world_size} GPUs, fsdp {fsdp}, against one GPU: {difference:.2e}")
    assert rounding < 0.1  # random weights in 40 blocks; anything worse is no rounding
    assert all(difference <= rounding for difference in differences.values())


def error(ours: torch.Tensor, expected: torch.Tensor) -> float:
    return float((ours - expected).norm() / expected.norm())


def _rank(rank: int, gang: tuple[int, bool, str], out: str) -> None:
    world_size, fsdp, dtype = gang
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    rendezvous = f"file://{os.path.join(out, name_of(*gang))}.store"
    dist.init_process_group("nccl", rendezvous, rank=rank, world_size=world_size, device_id=device)
    mesh = ParallelMesh.create(world_size=world_size, ulysses_degree=world_size, device_type="cuda")
    dit = build_dit(
        DiTConfig(),
        device=device,
        dtype=getattr(torch, dtype),
        mesh=mesh,
        attention=AttentionBackend.SDPA if dtype == "float32" else AttentionBackend.AUTO,
    )
    source = RandomSource(dit, device)
    if fsdp:
        shard_dit(dit, mesh.everyone)
    load_module(dit, source, device=device)
    flow, seconds = _forward(dit, device)
    if rank == 0:
        peak = torch.cuda.max_memory_allocated() / 2**30
        print(f"{name_of(*gang)}: {seconds:.3f} s a forward, peak {peak:.1f} GiB", flush=True)
        torch.save(flow.cpu(), Path(out) / f"{name_of(*gang)}.pt")
    dist.destroy_process_group()


@torch.no_grad()
def _forward(dit: torch.nn.Module, device: torch.device) -> tuple[torch.Tensor, float]:
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device)

    clip = dit.condition_clip(draw(20, *LATENT), draw(384, *LATENT), keep_modulations=False)
    prompt = dit.condition_prompt(draw(77, 4096), None)
    latent, timestep = draw(16, *LATENT), torch.tensor(900, device=device)
    dit(latent, timestep, clip, prompt)  # warm up
    torch.cuda.synchronize()
    begin = time.perf_counter()
    flow = dit(latent, timestep, clip, prompt)
    torch.cuda.synchronize()
    return flow, time.perf_counter() - begin
