"""Whether the experts' weights are split over a gang, and how that follows from its memory."""

from enum import Enum

import torch
import torch.distributed as dist

from model.errors import ConfigurationError
from model.parallel.mesh import ParallelMesh

# Left to activations and kept camera modulations. A 720x1280 clip of 161 frames needs some 20 GiB
# of activations on one rank; modulations take what is there.
_WORKING_SHARE = 0.3
_GIB = 2**30


class Sharding(str, Enum):
    """How long a rank holds weights that are not its own; `auto` decides by memory."""

    AUTO = "auto"
    NONE = "none"  # both experts whole on every rank
    PER_EXPERT = "per_expert"  # the active expert, gathered once per phase of a clip
    PER_BLOCK = "per_block"  # one block, gathered in every forward


def choose_sharding(
    requested: Sharding, *, expert_bytes: int, memory_bytes: int, world_size: int
) -> Sharding:
    """The sharding of a gang.

    Args:
        requested: The setting.
        expert_bytes: Weights of one expert.
        memory_bytes: What every rank has for weights and work; the same on all ranks.
        world_size: Ranks to split over.

    Raises:
        ConfigurationError: The setting, or the best of them, does not fit.
    """
    held = {kind: held_bytes(kind, expert_bytes, world_size) for kind in Sharding}
    if requested is not Sharding.AUTO:
        if held[requested] > memory_bytes:
            raise ConfigurationError(_too_large(requested, held[requested], memory_bytes))
        return requested
    budget = memory_bytes * (1 - _WORKING_SHARE)
    kinds = (Sharding.NONE, Sharding.PER_EXPERT) if world_size > 1 else (Sharding.NONE,)
    for kind in kinds:
        if held[kind] <= budget:
            return kind
    smallest = Sharding.PER_BLOCK if world_size > 1 else Sharding.NONE
    if held[smallest] > memory_bytes:
        raise ConfigurationError(_too_large(smallest, held[smallest], memory_bytes))
    return smallest


def held_bytes(sharding: Sharding, expert_bytes: int, world_size: int) -> int:
    """Weights on a rank while an expert runs, both experts counted; `auto` counts as sharded."""
    shards = 2 * expert_bytes // world_size
    if sharding is Sharding.NONE:
        return 2 * expert_bytes
    return shards + expert_bytes if sharding is Sharding.PER_EXPERT else shards


def device_memory(device: torch.device, mesh: ParallelMesh | None, share: float) -> int | None:
    """Bytes that every rank of the gang may still take: the smallest of their answers.

    Args:
        device: This rank's.
        mesh: The gang; None for one process alone.
        share: Part of the GPU that is the rank's; other stages may fill the rest later.

    Returns:
        None on a CPU, whose memory is not the rank's alone.
    """
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    mine = torch.cuda.memory_reserved(device)
    answer = torch.tensor(min(free, int(share * total) - mine), device=device)
    if mesh is not None:
        dist.all_reduce(answer, dist.ReduceOp.MIN, group=mesh.everyone.get_group())
    return int(answer.item())


def _too_large(sharding: Sharding, needed: int, memory: int) -> str:
    return (
        f"sharding {sharding.value} needs {needed / _GIB:.1f} GiB of weights on every rank, which "
        f"has {memory / _GIB:.1f} GiB: take a larger gang, or sharding per_block"
    )
