"""torch.compile for blocks: whole, or in stages where ranks exchange in between."""

from collections.abc import Callable
from typing import Any

import torch

from model.block import Block, BlockStages
from model.dit import DiT


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


def compile_blocks(dit: DiT, backend: str | Callable[..., Any] = "inductor") -> None:
    """Sends whole blocks through torch.compile, for one process and clips of one size.

    One graph serves the blocks of all experts of a size, one more where there is no camera.

    Args:
        dit: Its blocks are compiled where they are called next.
        backend: As `torch.compile` takes it.
    """
    for block in dit.blocks:
        block.compile(dynamic=False, backend=backend)
