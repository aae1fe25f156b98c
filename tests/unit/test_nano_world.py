"""The procedural world: the renderer, the paths and what judges clips by them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.geometry import check_camera
from model.nano.captions import caption
from model.nano.clips import draw_clip, show
from model.nano.evaluate import late_colours, psnr, truth
from model.nano.motion import apparent_motion
from model.nano.paths import Motion, Move, camera_path, walk
from model.nano.world import Mood
from model.types import VideoShape

CPU = torch.device("cpu")
SHAPE = VideoShape(num_frames=9, height=48, width=80)


def test_a_seed_draws_the_same_clip_again_and_another_seed_another() -> None:
    first, again, other = (draw_clip(seed, device=CPU, shape=SHAPE) for seed in (4, 4, 5))
    assert torch.equal(first.pixels_3NHW, again.pixels_3NHW)
    assert first.caption == again.caption
    assert psnr(truth(first), truth(other)) < 30


@pytest.mark.parametrize("move", list(Move))
def test_paths_are_cameras_that_the_server_takes(move: Move) -> None:
    clip = draw_clip(2, device=CPU, shape=VideoShape(5, 16, 16), move=move)
    check_camera(camera_path(clip.motion, 33))


def test_right_and_up_are_right_and_up() -> None:
    right, up = walk(Motion(yaw=90), 17)[-1], walk(Motion(pitch=45), 17)[-1]
    assert torch.allclose(right[:3, 2], torch.tensor([1.0, 0, 0], dtype=torch.float64), atol=1e-6)
    assert up[1, 2] < -0.5
    assert walk(Motion(forward=1), 17)[-1, 2, 3] == pytest.approx(1.4)
    # A turn to the right bends a walk to the right.
    assert walk(Motion(forward=1, yaw=45), 17)[-1, 0, 3] > 0.3


@pytest.mark.parametrize(
    ("motion", "name"),
    [
        (Motion(yaw=20), "yaw"),
        (Motion(yaw=-20), "yaw"),
        (Motion(pitch=8), "pitch"),
        (Motion(pitch=-8), "pitch"),
        (Motion(forward=1), "forward"),
        (Motion(forward=-1), "forward"),
    ],
)
def test_the_renderers_own_frames_seem_to_move_as_told(motion: Motion, name: str) -> None:
    world = draw_clip(11, device=CPU, shape=SHAPE, still_mood=True).world
    frames = truth(show(world, motion, VideoShape(9, 96, 160), device=CPU))
    assert getattr(apparent_motion(frames), name) * getattr(motion, name) > 0


def test_a_caption_names_what_is_seen_and_what_will_change() -> None:
    clip = draw_clip(3, device=CPU, shape=SHAPE, still_mood=True)
    world = clip.world.turning(Mood("night", clip.world.before.weather))
    seen = torch.zeros(9, len(world.colours))
    seen[:, 0], seen[4, 7] = 0.2, 0.1
    text = caption(world, seen)
    assert f"{world.colours[0]} column" in text
    assert f"{world.colours[7]} box" in text
    assert text.endswith("Then night falls.") == (world.before.time != "night")
    assert "wall" not in text


def test_night_is_darker_than_day_at_the_end_only() -> None:
    world = draw_clip(7, device=CPU, shape=SHAPE).world
    day = Mood("day", "clear")
    still = replace(world, before=day, after=day)
    dark = still.turning(Mood("night", "clear"))
    bright, dim = (truth(show(w, Motion(), SHAPE, device=CPU)) for w in (still, dark))
    assert np.array_equal(bright[0], dim[0])
    assert late_colours(dim).mean() < 0.6 * late_colours(bright).mean()
