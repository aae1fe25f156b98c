"""Clips of drawn worlds: what training sees and what evaluation judges by."""

from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from model.nano.captions import caption
from model.nano.paths import Motion, Move, draw_motion, walk
from model.nano.render import render
from model.nano.world import World, draw_world
from model.types import VideoShape

# Seeds below the first are for training; between them trainings look how far they are; evaluation
# draws above the second.
VALIDATION_FROM = 900_000_000
HELD_OUT_FROM = 1_000_000_000
SHAPE = VideoShape(num_frames=33, height=96, width=160)


@dataclass(frozen=True, slots=True)
class Clip:
    """One rendered clip and everything that it was made from.

    Args:
        world: What there is.
        motion: How the camera goes.
        poses_N44: Camera-to-world of every frame, metres, float64.
        pixels_3NHW: RGB in [-1, 1].
        caption: What it shows.
    """

    world: World
    motion: Motion
    poses_N44: Tensor
    pixels_3NHW: Tensor
    caption: str


def draw_clip(
    seed: int,
    *,
    device: torch.device,
    shape: VideoShape = SHAPE,
    move: Move | None = None,
    still_mood: bool = False,
) -> Clip:
    """Draws a world, a path and a caption, and renders them.

    Args:
        seed: Same seed and arguments, same clip.
        device: Where to render.
        shape: Size of the clip.
        move: Kind of path; None draws that as well.
        still_mood: Whether time of day and weather stay as they begin.
    """
    world, motion = draw_scene(seed, shape.num_frames, move)
    if still_mood:
        world = world.turning(world.before)
    return show(world, motion, shape, device=device, variant=seed)


def draw_scene(seed: int, num_frames: int, move: Move | None = None) -> tuple[World, Motion]:
    """A world and a path through it, of which neither tells anything about the other.

    Args:
        seed: As in `draw_clip`.
        num_frames: Of the path that nothing stands in the way of.
        move: As in `draw_clip`.
    """
    motion = draw_motion(Random(f"motion {seed}"), move)
    return draw_world(seed, walk(motion, num_frames)), motion


def show(
    world: World, motion: Motion, shape: VideoShape, *, device: torch.device, variant: int = 0
) -> Clip:
    """Renders a world along a path and says what is seen."""
    poses = walk(motion, shape.num_frames)
    picture = render(world, poses, shape, device=device)
    text = caption(world, picture.seen, variant=variant)
    return Clip(world, motion, poses, picture.pixels, text)


def to_bytes(pixels_3NHW: Tensor) -> Tensor:
    """Pixels in [-1, 1] as pictures hold them: uint8 [N, H, W, 3]."""
    scaled = ((pixels_3NHW + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return scaled.permute(1, 2, 3, 0).contiguous()


def from_bytes(bytes_BNHW3: Tensor) -> Tensor:
    """Pictures as networks take them: [B, 3, N, H, W] in [-1, 1]."""
    return bytes_BNHW3.permute(0, 4, 1, 2, 3).float() / 127.5 - 1
