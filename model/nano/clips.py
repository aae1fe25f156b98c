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

# Seeds below it are for training; evaluation draws above it.
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
    motion = draw_motion(Random(seed), move)
    poses = walk(motion, shape.num_frames)
    world = draw_world(seed, poses)
    if still_mood:
        world = world.turning(world.before)
    return show(world, motion, shape, device=device, variant=seed)


def show(
    world: World, motion: Motion, shape: VideoShape, *, device: torch.device, variant: int = 0
) -> Clip:
    """Renders a world along a path and says what is seen."""
    poses = walk(motion, shape.num_frames)
    picture = render(world, poses, shape, device=device)
    text = caption(world, picture.seen, variant=variant)
    return Clip(world, motion, poses, picture.pixels, text)
