"""The 18.5 B expert on real GPUs: gangs of 1, 2 and 4 give the same step to bf16 rounding.

On cards that cannot hold it in float32 it has as many blocks as they can.

The yardstick is the rounding itself: how far the same forward in bf16 lies from float32. Gangs
differ from one GPU only in the order of sums, so they must lie closer to it than that.
"""

import os
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from model.attention import AttentionBackend
from model.config import DiTConfig
from model.dit import DiT
from model.experts import ExpertSettings, random_expert
from model.parallel.guidance import Guidance
from model.parallel.mesh import ParallelMesh
from model.parallel.sharding import Sharding

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(540),
    pytest.mark.skipif(torch.cuda.device_count() < 1, reason="needs a CUDA GPU with 80 GB"),
]

LATENT = (5, 60, 104)  # 17 frames of 480x832: 7,800 tokens
BLOCK_BYTES = 4 * 18.54e9 / 40  # in float32
WEIGHTS_SHARE = 0.65  # of the memory; the rest is for kept modulations and activations


class Kind(NamedTuple):
    """One way to run the forward."""

    world_size: int
    dtype: str = "bfloat16"
    sharding: Sharding = Sharding.NONE
    compiled: bool = False
    cfg_parallel: bool = False

    @property
    def label(self) -> str:
        flags = [name for name in ("compiled", "cfg_parallel") if getattr(self, name)]
        return "-".join([str(self.world_size), self.dtype, self.sharding.value, *flags])

    @property
    def settings(self) -> ExpertSettings:
        exact = self.dtype == "float32"
        return ExpertSettings(
            sharding=self.sharding,
            attention=AttentionBackend.SDPA if exact else AttentionBackend.AUTO,
            compiled=self.compiled,
        )


def full_size() -> DiTConfig:
    """The published sizes, but for blocks that the first GPU has no room for."""
    memory = torch.cuda.get_device_properties(0).total_memory
    return DiTConfig(num_layers=min(40, int(WEIGHTS_SHARE * memory / BLOCK_BYTES)))


EXACT, ALONE = Kind(1, "float32"), Kind(1)
GANGS = [
    Kind(2),
    Kind(2, cfg_parallel=True),
    Kind(4),
    Kind(4, cfg_parallel=True),
    Kind(4, sharding=Sharding.PER_EXPERT),
    Kind(4, sharding=Sharding.PER_BLOCK),
]
COMPILED = [Kind(1, compiled=True), Kind(4, sharding=Sharding.PER_BLOCK, compiled=True)]


def possible() -> list[Kind]:
    kinds = [EXACT, ALONE, *GANGS, *COMPILED]
    return [kind for kind in kinds if kind.world_size <= torch.cuda.device_count()]


@pytest.fixture(scope="module")
def flows(tmp_path_factory):
    out = tmp_path_factory.mktemp("flows")
    for kind in possible():
        mp.start_processes(_rank, args=(kind, str(out)), nprocs=kind.world_size)
    return {kind: torch.load(out / f"{kind.label}.pt") for kind in possible()}


def test_gangs_differ_less_than_bf16_rounding(flows):
    rounding = error(flows[ALONE], flows[EXACT])
    print(f"bf16 against float32 on one GPU, {full_size().num_layers} blocks: {rounding:.2e}")
    differences = {k: error(flows[k], flows[ALONE]) for k in possible() if k in GANGS}
    for kind, difference in differences.items():
        print(f"{kind.label} against one GPU: {difference:.2e}")
    assert rounding < 0.1  # random weights in 40 blocks; anything worse is no rounding
    assert all(difference <= rounding for difference in differences.values())


def test_compiled_blocks_round_no_worse(flows):
    rounding = error(flows[ALONE], flows[EXACT])
    for kind in possible():
        if kind in COMPILED:
            compiled = error(flows[kind], flows[EXACT])
            print(f"{kind.label} against float32: {compiled:.2e}")
            assert compiled <= 1.2 * rounding


def error(ours: torch.Tensor, expected: torch.Tensor) -> float:
    return float((ours - expected).norm() / expected.norm())


def _rank(rank: int, kind: Kind, out: str) -> None:
    world_size = kind.world_size
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    rendezvous = f"file://{os.path.join(out, kind.label)}.store"
    dist.init_process_group("nccl", rendezvous, rank=rank, world_size=world_size, device_id=device)
    mesh = ParallelMesh.create(
        world_size=world_size,
        ulysses_degree=world_size // 2 if kind.cfg_parallel else world_size,
        cfg_parallel=kind.cfg_parallel,
        device_type="cuda",
    )
    dit = random_expert(
        full_size(), kind.settings, device=device, dtype=getattr(torch, kind.dtype), mesh=mesh
    )
    flow, seconds = _step(dit, mesh.guidance(), device)
    if rank == 0:
        peak = torch.cuda.max_memory_allocated() / 2**30
        print(f"{kind.label}: {seconds:.3f} s a step, peak {peak:.1f} GiB", flush=True)
        torch.save(flow.cpu(), Path(out) / f"{kind.label}.pt")
    dist.destroy_process_group()


@torch.no_grad()
def _step(dit: DiT, guidance: Guidance, device: torch.device) -> tuple[torch.Tensor, float]:
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device)

    clip = dit.condition_clip(draw(20, *LATENT), draw(384, *LATENT), kept_blocks=len(dit.blocks))
    prompts = [dit.condition_prompt(draw(length, 4096), None) for length in (77, 126)]
    latent, timestep = draw(16, *LATENT), torch.tensor(900, device=device)
    guidance.flows(dit, latent, timestep, clip, prompts)  # warm up
    torch.cuda.synchronize()
    begin = time.perf_counter()
    flows = guidance.flows(dit, latent, timestep, clip, prompts)
    torch.cuda.synchronize()
    return torch.stack(flows), time.perf_counter() - begin
