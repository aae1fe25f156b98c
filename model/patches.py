"""Latent pixels to tokens and back: 2x2 of them make one token.

Shapes: B batch, C channels, F latent frames, h and w latent pixels, L = F * h/2 * w/2 tokens.
"""

import torch
from torch import Tensor

from model.types import PATCH_SIZE

PATCH = (1, PATCH_SIZE, PATCH_SIZE)  # frames are never folded


def patchify(x_BCFhw: Tensor) -> Tensor:
    """Latent pixels to tokens: [B, C, F, h, w] to [B, L, C*4], inner order (C, row, column)."""
    folded: Tensor = x_BCFhw.unflatten(4, (-1, PATCH[2])).unflatten(3, (-1, PATCH[1]))
    return folded.permute(0, 2, 3, 5, 1, 4, 6).flatten(4).flatten(1, 3)


def unpatchify(patches_BLC: Tensor, shape: torch.Size) -> Tensor:
    """Tokens to latent pixels.

    Args:
        patches_BLC: [B, L, 4*C] with inner order (row, column, C).
        shape: [C, F, h, w] of each clip.

    Returns:
        [B, C, F, h, w].
    """
    channels, frames, height, width = shape
    grid = (-1, frames, height // PATCH[1], width // PATCH[2], PATCH[1], PATCH[2], channels)
    return patches_BLC.view(grid).permute(0, 6, 1, 2, 4, 3, 5).reshape(-1, *shape)
