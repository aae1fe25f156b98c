"""FSDP2, applied to a finished model from outside; the model does not know."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from model.dit import DiT
from model.parallel.sharding import Sharding


def shard_dit(dit: DiT, mesh: DeviceMesh, sharding: Sharding) -> None:
    """Splits an expert's weights over the mesh; `Sharding.NONE` leaves them whole.

    Args:
        dit: On the meta device.
        mesh: One axis, over which every parameter's rows are dealt.
        sharding: `PER_BLOCK` gives each block's weights back after its forward, and fetches the
            next block's meanwhile. `PER_EXPERT` keeps them until `release_weights`.
    """
    if sharding is Sharding.NONE:
        return
    per_block = sharding is Sharding.PER_BLOCK
    shard_blocks(dit, dit.blocks, mesh, reshard_after_forward=per_block)
    outside_forward = ["condition_prompt", "condition_camera"]
    if per_block:
        dit.prompts_take_turns = False  # each would gather a block for itself
        _prefetch_next(dit.blocks)
    else:
        outside_forward.append("send")  # with which a layer begins for prompts that take turns
    for block in dit.blocks:
        for method in outside_forward:
            register_fsdp_forward_method(block, method)
    for method in ("condition_clip", "condition_prompt", "predict"):
        register_fsdp_forward_method(dit, method)


def release_weights(dit: DiT) -> None:
    """Gives back what an expert has gathered; without FSDP there is nothing to give."""
    for module in dit.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def shard_blocks(
    model: nn.Module,
    blocks: Iterable[nn.Module],
    mesh: DeviceMesh,
    *,
    reshard_after_forward: bool = True,
) -> None:
    """Shards the blocks one by one, then the rest of the model as one group.

    Serves T5 as well. CLIP and the VAE stay whole: too few bytes to be worth a collective.
    """
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=reshard_after_forward)
    fully_shard(model, mesh=mesh)


def _prefetch_next(blocks: Sequence[nn.Module]) -> None:
    for block, following in pairwise(blocks):
        assert isinstance(block, FSDPModule) and isinstance(following, FSDPModule)
        block.set_modules_to_forward_prefetch([following])
