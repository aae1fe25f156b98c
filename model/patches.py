"""Latent pixels to tokens and back: 2x2 of them make one token.

Shapes: C channels, F latent frames, h and w latent pixels, L = F * h/2 * w/2 tokens.
"""

import torch
from torch import Tensor

from model.types import PATCH_SIZE

PATCH = (1, PATCH_SIZE, PATCH_SIZE)  # frames are never folded


def patchify(x_CFhw: Tensor) -> Tensor:
    """Latent pixels to tokens: [C, F, h, w] to [1, L, C*4], inner order (C, row, column)."""
    folded: Tensor = x_CFhw.unflatten(3, (-1, PATCH[2])).unflatten(2, (-1, PATCH[1]))
    return folded.permute(1, 2, 4, 0, 3, 5).flatten(3).flatten(0, 2).unsqueeze(0)


def unpatchify(patches_BLC: Tensor, shape: torch.Size) -> Tensor:
    """Tokens to latent pixels: [1, L, 4*C] with inner order (row, column, C) to [C, F, h, w]."""
    channels, frames, height, width = shape
    grid = (frames, height // PATCH[1], width // PATCH[2], PATCH[1], PATCH[2], channels)
    return patches_BLC.view(grid).permute(5, 0, 1, 3, 2, 4).reshape(shape)
