"""torch.compile for blocks: whole, or in stages where ranks exchange in between."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from model.block import Block, BlockStages, CameraModulation
from model.dit import DiT
from model.rope import RotaryTable


def compiled_stages(backend: str | Callable[..., Any] = "inductor") -> BlockStages:
    """The stages through torch.compile: one compilation of each serves all blocks and clip sizes.

    Unmarked, PyTorch takes the first size for the only one, and compiles for any with the second.

    Args:
        backend: As `torch.compile` takes it.
    """
    before = torch.compile(Block.before_attention, backend=backend)
    between = torch.compile(Block.between, backend=backend)
    after = torch.compile(Block.after_attention, backend=backend)
    modulate = torch.compile(Block.modulate_camera, backend=backend)

    def run_before(
        block: Block, x_BlD: Tensor, time_B6D: Tensor, rope: RotaryTable
    ) -> tuple[Tensor, ...]:
        _mark_tokens(x_BlD)
        _mark_tokens_of_heads(rope.cos, rope.sin)
        return before(block, x_BlD, time_B6D, rope)

    def run_between(
        block: Block,
        x_BlD: Tensor,
        received: tuple[Tensor, ...],
        time_B6D: Tensor,
        camera: CameraModulation | None,
    ) -> tuple[Tensor, Tensor]:
        _mark_tokens(x_BlD)
        _mark_tokens_of_heads(*received)
        if camera is not None:
            _mark_tokens(camera.scale, camera.shift)
        return between(block, x_BlD, received, time_B6D, camera)

    def run_after(block: Block, x_BlD: Tensor, out_BlNH: Tensor, time_B6D: Tensor) -> Tensor:
        _mark_tokens(x_BlD)
        _mark_tokens_of_heads(out_BlNH)
        return after(block, x_BlD, out_BlNH, time_B6D)

    def run_modulate(block: Block, camera_BlD: Tensor) -> CameraModulation:
        _mark_tokens(camera_BlD)
        return modulate(block, camera_BlD)

    return BlockStages(run_before, run_between, run_after, run_modulate)


def _mark_tokens(*tensors_lD: Tensor) -> None:
    """Says that the dimension before the last may have any length."""
    for tensor in tensors_lD:
        torch._dynamo.maybe_mark_dynamic(tensor, tensor.dim() - 2)


def _mark_tokens_of_heads(*tensors_lNH: Tensor) -> None:
    """Says that the last dimension but two may have any length."""
    for tensor in tensors_lNH:
        torch._dynamo.maybe_mark_dynamic(tensor, tensor.dim() - 3)


def compile_blocks(dit: DiT, backend: str | Callable[..., Any] = "inductor") -> None:
    """Sends whole blocks through torch.compile, for one process and clips of one size.

    One graph serves the blocks of all experts of a size, one more where there is no camera.

    Args:
        dit: Its blocks are compiled where they are called next.
        backend: As `torch.compile` takes it.
    """
    for block in dit.blocks:
        block.compile(dynamic=False, backend=backend)
