"""torch.compile for what a block does between its attentions and exchanges."""

import torch

from model.block import Block, BlockStages


def compiled_stages() -> BlockStages:
    """The stages through torch.compile: one compilation of each serves all blocks.

    The first clip size is compiled as it is; with the second, PyTorch compiles once more for any.
    """
    return BlockStages(
        before_attention=torch.compile(Block.before_attention),
        between=torch.compile(Block.between),
        after_attention=torch.compile(Block.after_attention),
        modulate_camera=torch.compile(Block.modulate_camera),
    )
