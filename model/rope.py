"""Rotary positions over (frame, row, column), as Wan publishes them.

Shapes: L tokens in (f, h, w) order, N heads, H head size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

THETA = 10_000.0


@dataclass(frozen=True, slots=True)
class RotaryTable:
    """Factors of every token's angles, float32 [L, 1, H] each.

    Element 2i and 2i+1 of a head turn by one angle: `cos` has its cosine twice, `sin` its sine
    with the sign of the pair's formula, minus for the first.
    """

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
    cos, sin = angle_L1h.cos(), angle_L1h.sin()
    return RotaryTable(
        cos=torch.stack([cos, cos], dim=-1).flatten(-2).float().to(device),
        sin=torch.stack([-sin, sin], dim=-1).flatten(-2).float().to(device),
    )


def rotate(x_BLNH: Tensor, table: RotaryTable) -> Tensor:
    """Turns the pairs (2i, 2i+1) of each head by the token's angles, in float32.

    Returns:
        [B, L, N, H] in the dtype of `x_BLNH`.
    """
    x = x_BLNH.float()
    swapped: Tensor = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return (x * table.cos + swapped * table.sin).to(x_BLNH.dtype)
