"""Rotary positions over (frame, row, column), as Wan publishes them.

Shapes: L tokens in (f, h, w) order, N heads, H head size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

THETA = 10_000.0


@dataclass(frozen=True, slots=True)
class RotaryTable:
    """Cosine and sine of every token's angles, float32 [L, 1, H/2] each."""

    cos: Tensor
    sin: Tensor


def rotary_table(grid: tuple[int, int, int], head_dim: int, *, device: torch.device) -> RotaryTable:
    """Angles of all tokens of a grid, computed in float64 and kept in float32.

    Args:
        grid: Frames, rows and columns of tokens.
        head_dim: Size of one head; rows and columns take 2*(H//6) of it each, frames the rest.
        device: Where the table will live.
    """
    spatial = 2 * (head_dim // 6)
    sizes = (head_dim - 2 * spatial, spatial, spatial)
    angles = []
    for axis, (length, size) in enumerate(zip(grid, sizes, strict=True)):
        frequency = THETA ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        angle = torch.outer(torch.arange(length, dtype=torch.float64), frequency)
        view = [1, 1, 1, angle.shape[1]]
        view[axis] = length
        angles.append(angle.view(view).expand(*grid, -1))
    angle_L1h = torch.cat(angles, dim=-1).flatten(0, 2).unsqueeze(1)
    return RotaryTable(
        cos=angle_L1h.cos().float().to(device), sin=angle_L1h.sin().float().to(device)
    )


def rotate(x_BLNH: Tensor, table: RotaryTable) -> Tensor:
    """Turns the pairs (2i, 2i+1) of each head by the token's angles, in float32.

    Returns:
        [B, L, N, H] in the dtype of `x_BLNH`.
    """
    even, odd = x_BLNH.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack(
        [even * table.cos - odd * table.sin, even * table.sin + odd * table.cos], dim=-1
    )
    return turned.flatten(-2).to(x_BLNH.dtype)
