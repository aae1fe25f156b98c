"""Compilation and FSDP2, applied to a finished model from outside; the model does not know."""

from collections.abc import Iterable

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from model.dit import DiT


def compile_blocks(dit: DiT) -> None:
    """Compiles the blocks' forward; comes before `shard_dit`.

    All blocks share one compilation per clip size, of which PyTorch keeps eight; further sizes
    run uncompiled.
    """
    for block in dit.blocks:
        block.compile(dynamic=False)


def shard_dit(dit: DiT, mesh: DeviceMesh) -> None:
    """Shards every block of a DiT over the mesh, then what is left.

    Blocks give their weights back after each forward, so a rank holds its slice and one block.
    """
    shard_blocks(dit, dit.blocks, mesh)
    for block in dit.blocks:
        for method in ("condition_prompt", "condition_camera"):
            register_fsdp_forward_method(block, method)
    for method in ("condition_clip", "condition_prompt"):
        register_fsdp_forward_method(dit, method)


def shard_blocks(model: nn.Module, blocks: Iterable[nn.Module], mesh: DeviceMesh) -> None:
    """Shards the blocks one by one, then the rest of the model as one group.

    Serves T5 as well. CLIP and the VAE stay whole: too few bytes to be worth a collective.
    """
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
