"""What could be known at best: a clip of one who sees in the first frame all that is to be seen.

The follower knows where each point of the first frame is and how each one looks in later light.
What that frame does not show it can only guess: the mean of what it knows in the same row of
pixels. No model is told more, so that its margins say how far paths can be told apart at all.
"""

import torch
from torch import Tensor

from model.nano.paths import Motion, walk
from model.nano.render import (
    SKY,
    Scene,
    batches,
    colours,
    fine_rays,
    fine_shape,
    gather,
    nearest,
    scene_of,
)
from model.nano.world import World
from model.types import VideoShape

_WITHIN = 0.02  # share of a distance by which two rays may miss each other on one point
_ELSEWHERE = 1e-3  # weight of other rows, for rows of which nothing is known


@torch.no_grad()
def follow(world: World, motion: Motion, shape: VideoShape, *, device: torch.device) -> Tensor:
    """The follower's clip along a path.

    Args:
        world: What there is.
        motion: The path.
        shape: Size of the clip.
        device: Where to compute.

    Returns:
        RGB float32 [3, N, H, W] in [-1, 1].
    """
    poses = walk(motion, shape.num_frames)
    scene, frames = scene_of(world, device), []
    for part, lights in batches(world, poses, shape, device):
        origin, direction = fine_rays(part, shape)
        distance, index = nearest(scene, origin, direction)
        colour_NR3 = colours(scene, origin, direction, distance, index, lights)
        known_NR = _shown_at_first(scene, origin, direction, distance, index, shape)
        frames.append(gather(_guessed(colour_NR3, known_NR, shape), shape))
    return torch.cat(frames).permute(3, 0, 1, 2) * 2 - 1


def _shown_at_first(
    scene: Scene,
    origin: Tensor,
    direction: Tensor,
    distance: Tensor,
    index: Tensor,
    shape: VideoShape,
) -> Tensor:
    """Whether the first frame, whose camera is the world's origin, shows what rays hit: [N, R]."""
    is_sky = index == SKY
    point = torch.where(is_sky[..., None], direction, origin + distance[..., None] * direction)
    far = point.norm(dim=-1)
    seen_far, seen_index = nearest(scene, torch.zeros_like(origin), point / far[..., None])
    is_same = (seen_index == index) & (is_sky | ((seen_far - far).abs() < _WITHIN * far))
    shown: Tensor = is_same & _in_first_view(point, shape)
    return shown


def _in_first_view(point: Tensor, shape: VideoShape) -> Tensor:
    _, edges = fine_rays(torch.eye(4, device=point.device)[None], shape)
    right, down = ((edges[..., axis] / edges[..., 2]).max() for axis in (0, 1))
    x, y, z = point.unbind(-1)
    return (z > 0) & (x.abs() <= right * z) & (y.abs() <= down * z)


def _guessed(colour_NR3: Tensor, known_NR: Tensor, shape: VideoShape) -> Tensor:
    """Colours with the mean of what is known in their row wherever they are not."""
    rows = fine_shape(shape).height
    colour = colour_NR3.unflatten(1, (rows, -1))
    known = known_NR.unflatten(1, (rows, -1))[..., None].float()
    of_row, count = (colour * known).sum(2, keepdim=True), known.sum(2, keepdim=True)
    of_frame, in_frame = of_row.sum(1, keepdim=True), count.sum(1, keepdim=True)
    mean = (of_row + _ELSEWHERE * of_frame) / (count + _ELSEWHERE * in_frame).clamp(min=1e-6)
    return torch.where(known > 0, colour, mean).flatten(1, 2)
