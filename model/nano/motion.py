"""How a camera seems to move, from pictures alone: least squares on brightness constancy.

The model of motion is that of a far scene (yaw, pitch) and of walking ahead (a flow away from
the middle); see Horn and Schunck 1981 for the constraint.
"""

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.types import UInt8Array


@dataclass(frozen=True, slots=True)
class ApparentMotion:
    """Sums over a clip, in pixels of the blurred frames; the signs are what matters.

    Args:
        yaw: To the right.
        pitch: Upwards.
        forward: Ahead.
    """

    yaw: float
    pitch: float
    forward: float


def apparent_motion(frames: UInt8Array, *, blur: int = 4) -> ApparentMotion:
    """Estimates the motion from frame to frame and adds it up.

    Args:
        frames: uint8 [N, H, W, 3].
        blur: Pixels that are averaged, which brings larger motions within reach.
    """
    grey = torch.from_numpy(frames).float().mean(-1).unsqueeze(1) / 255
    small = F.avg_pool2d(grey, blur).squeeze(1)
    small = small - small.mean((1, 2), keepdim=True)  # what gets dark as a whole does not move
    total = torch.zeros(3)
    for before, after in itertools.pairwise(small):
        total += _between(before, after)
    yaw, pitch, forward = total.tolist()
    return ApparentMotion(yaw, pitch, forward)


def _between(before: Tensor, after: Tensor) -> Tensor:
    """Yaw, pitch and forward of one frame to the next."""
    middle = (before + after) / 2
    along_y, along_x = torch.gradient(middle)
    height, width = before.shape
    y = (torch.arange(height) - (height - 1) / 2)[:, None].expand(height, width)
    x = (torch.arange(width) - (width - 1) / 2)[None, :].expand(height, width)
    # Turning right moves the picture left, looking up moves it down, walking spreads it.
    columns = [-along_x, along_y, (along_x * x + along_y * y) / (width / 2)]
    system = torch.stack([column.flatten() for column in columns], dim=1)
    normal = system.T @ system + 1e-3 * torch.eye(3)
    solved: Tensor = torch.linalg.solve(normal, system.T @ (before - after).flatten())
    return solved
