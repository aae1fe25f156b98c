"""Real gloo ranks that run one guided step of every expert, for comparison with one process."""

import os
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from model.checkpoint.layout import locate_checkpoint
from model.denoiser import Denoiser, initial_noise
from model.experts import ExpertSettings
from model.parallel.mesh import ParallelMesh
from model.parallel.sharding import Sharding
from model.types import DenoiseRequest


class Kind(NamedTuple):
    """One gang."""

    world_size: int
    ulysses_degree: int
    sharding: Sharding
    cfg_parallel: bool

    @property
    def label(self) -> str:
        return f"{self.world_size}-{self.ulysses_degree}-{self.sharding.value}-{self.cfg_parallel}"


KINDS = [
    Kind(world_size, degree, sharding, cfg_parallel)
    for world_size, degree, sharding, cfg_parallel in product(
        (1, 2, 4),
        (1, 2, 4),
        (Sharding.NONE, Sharding.PER_EXPERT, Sharding.PER_BLOCK),
        (False, True),
    )
    if degree * (1 + cfg_parallel) <= world_size
]


def run_everywhere(checkpoint: Path, request: DenoiseRequest, out: Path) -> None:
    """Spawns 4 processes; each writes `flow-{kind.label}-{rank}.pt` for the gangs it is in."""
    args = (str(checkpoint), request, str(out))
    mp.start_processes(_rank, args=args, nprocs=4, start_method="spawn")


@torch.no_grad()
def flows(denoiser: Denoiser, request: DenoiseRequest) -> torch.Tensor:
    """Both branches of both experts; camera modulations of all, one or no block are kept."""
    inputs = denoiser._inputs(request)
    noise = initial_noise(request.seed, request.shape)
    results = []
    for timestep, kept in product((980, 500), (2, 1, 0)):
        expert = denoiser._experts.choose(timestep, 0.947)
        denoiser._activate(expert)
        prompts = [
            expert.condition_prompt(text, inputs.image_SC)
            for text in (inputs.prompt_SC, inputs.negative_prompt_SC)
        ]
        clip = expert.condition_clip(inputs.y_CFhw, inputs.camera_CFhw, kept_blocks=kept)
        t = torch.tensor(timestep)
        results += denoiser._guidance.flows(expert, noise, t, clip, prompts)
    return torch.stack(results)


def _rank(rank: int, checkpoint: str, request: DenoiseRequest, out: str) -> None:
    torch.set_num_threads(1)
    for world_size in (1, 2, 4):
        if rank >= world_size:
            continue
        rendezvous = f"file://{os.path.join(out, f'store-{world_size}')}"
        dist.init_process_group("gloo", rendezvous, rank=rank, world_size=world_size)
        for kind in KINDS:
            if kind.world_size == world_size:
                flow = _gang_flows(kind, checkpoint, request)
                torch.save(flow, os.path.join(out, f"flow-{kind.label}-{rank}.pt"))
        dist.destroy_process_group()


def _gang_flows(kind: Kind, checkpoint: str, request: DenoiseRequest) -> torch.Tensor:
    mesh = ParallelMesh.create(
        world_size=kind.world_size,
        ulysses_degree=kind.ulysses_degree,
        cfg_parallel=kind.cfg_parallel,
        device_type="cpu",
    )
    denoiser = Denoiser.load(
        locate_checkpoint(checkpoint),
        device=torch.device("cpu"),
        dtype=torch.float32,
        mesh=mesh,
        settings=ExpertSettings(sharding=kind.sharding),
    )
    return flows(denoiser, request)
