"""Real gloo ranks that run one forward of every expert, for comparison with one process."""

import os
from itertools import product
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from model.checkpoint.layout import locate_checkpoint
from model.denoiser import Denoiser, initial_noise
from model.experts import ExpertSettings
from model.parallel.mesh import ParallelMesh
from model.parallel.sharding import Sharding
from model.types import DenoiseRequest

WORLD_SIZES = (1, 2, 4)
SHARDINGS = (Sharding.NONE, Sharding.PER_EXPERT, Sharding.PER_BLOCK)


def run_everywhere(checkpoint: Path, request: DenoiseRequest, out: Path) -> None:
    """Spawns 4 processes; writes `flow-{world}-{ulysses}-{sharding}-{rank}.pt` for every gang."""
    args = (str(checkpoint), request, str(out))
    mp.start_processes(_rank, args=args, nprocs=max(WORLD_SIZES), start_method="spawn")


def flows(denoiser: Denoiser, request: DenoiseRequest) -> torch.Tensor:
    """The flow of both experts, with camera modulations kept and computed in each block."""
    inputs = denoiser._inputs(request)
    noise = initial_noise(request.seed, request.shape)
    results = []
    for timestep, kept in product((980, 500), (2, 1, 0)):
        expert = denoiser._experts.choose(timestep, 0.947)
        denoiser._activate(expert)
        with torch.no_grad():
            prompt = expert.condition_prompt(inputs.prompt_SC, inputs.image_SC)
            clip = expert.condition_clip(inputs.y_CFhw, inputs.camera_CFhw, kept_blocks=kept)
            results.append(expert(noise, torch.tensor(timestep), clip, prompt))
    return torch.stack(results)


def _rank(rank: int, checkpoint: str, request: DenoiseRequest, out: str) -> None:
    torch.set_num_threads(1)
    paths = locate_checkpoint(checkpoint)
    for world_size in WORLD_SIZES:
        if rank >= world_size:
            continue
        rendezvous = f"file://{os.path.join(out, f'store-{world_size}')}"
        dist.init_process_group("gloo", rendezvous, rank=rank, world_size=world_size)
        degrees = [degree for degree in WORLD_SIZES if degree <= world_size]
        for degree, sharding in product(degrees, SHARDINGS):
            mesh = ParallelMesh.create(
                world_size=world_size, ulysses_degree=degree, device_type="cpu"
            )
            with torch.no_grad():
                denoiser = Denoiser.load(
                    paths,
                    device=torch.device("cpu"),
                    dtype=torch.float32,
                    mesh=mesh,
                    settings=ExpertSettings(sharding=sharding),
                )
                flow = flows(denoiser, request)
            torch.save(
                flow, os.path.join(out, f"flow-{world_size}-{degree}-{sharding.value}-{rank}.pt")
            )
        dist.destroy_process_group()
