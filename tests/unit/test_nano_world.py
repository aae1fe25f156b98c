"""The procedural world: the renderer, the paths and what judges clips by them."""

from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch

from model.geometry import check_camera
from model.nano.captions import caption
from model.nano.clips import Clip, draw_clip, draw_scene, show, to_bytes
from model.nano.follower import follow
from model.nano.frames import late_colours, psnr, truth
from model.nano.motion import apparent_motion
from model.nano.paths import Motion, Move, camera_path, draw_motion, turned_apart_deg, walk
from model.nano.world import TIMES, WEATHERS, Mood, light
from model.types import VideoShape

CPU = torch.device("cpu")
SHAPE = VideoShape(num_frames=9, height=48, width=80)


def test_a_seed_draws_the_same_clip_again_and_another_seed_another() -> None:
    first, again, other = (draw_clip(seed, device=CPU, shape=SHAPE) for seed in (4, 4, 5))
    assert torch.equal(first.pixels_3NHW, again.pixels_3NHW)
    assert first.caption == again.caption
    assert psnr(truth(first), truth(other)) < 30


def test_a_world_tells_nothing_about_the_path_through_it() -> None:
    scenes = [draw_scene(seed, 5) for seed in range(400)]
    turns = [(world, motion) for world, motion in scenes if motion.yaw != 0]
    moods = Counter((world.before.time, motion.yaw > 0) for world, motion in turns)
    for time in TIMES:
        to_the_right, to_the_left = moods[time, True], moods[time, False]
        assert 0.3 < to_the_right / (to_the_right + to_the_left) < 0.7
    speeds = {
        weather: np.mean([abs(m.yaw) for world, m in turns if world.before.weather == weather])
        for weather in WEATHERS
    }
    assert max(speeds.values()) - min(speeds.values()) < 1.2


def test_the_mood_changes_in_a_third_of_the_worlds() -> None:
    worlds = [draw_scene(seed, 5)[0] for seed in range(300)]
    assert 0.25 < np.mean([world.before != world.after for world in worlds]) < 0.42


def test_moods_change_by_the_clock_and_not_by_the_length_of_the_clip() -> None:
    world = draw_scene(1, 5)[0].turning(Mood("night", "fog"))
    short, long = light(world, 33), light(world, 65)
    for name in ("zenith", "fog", "ambient"):
        assert torch.equal(getattr(short, name), getattr(long, name)[:33])
        assert torch.equal(getattr(short, name)[23], getattr(long, name)[64])


@pytest.mark.parametrize("move", list(Move))
def test_paths_are_cameras_that_the_server_takes(move: Move) -> None:
    check_camera(camera_path(draw_motion(Random(2), move), 33))


def test_right_and_up_are_right_and_up() -> None:
    right, up = walk(Motion(yaw=90), 17)[-1], walk(Motion(pitch=45), 17)[-1]
    assert torch.allclose(right[:3, 2], torch.tensor([1.0, 0, 0], dtype=torch.float64), atol=1e-6)
    assert up[1, 2] < -0.5
    assert walk(Motion(forward=1), 17)[-1, 2, 3] == pytest.approx(1.0)
    # A turn to the right bends a walk to the right.
    assert walk(Motion(forward=1, yaw=45), 17)[-1, 0, 3] > 0.2


def test_a_longer_walk_begins_like_a_shorter_one() -> None:
    for motion in (Motion(forward=1, yaw=9, eased=True), Motion(yaw=9, then=Motion(right=1))):
        assert torch.equal(walk(motion, 65)[:33], walk(motion, 33))


def test_an_eased_path_sets_in_and_a_second_part_takes_over() -> None:
    eased = walk(Motion(forward=1, eased=True), 33)[:, 2, 3].diff()
    assert eased[0] == 0
    assert eased[-1] == pytest.approx(1 / 16)
    parts = walk(Motion(yaw=10, then=Motion(forward=1)), 33)
    assert torch.equal(parts[16, :3, 3], torch.zeros(3, dtype=torch.float64))
    assert torch.equal(parts[17, :3, :3], parts[32, :3, :3])
    assert turned_apart_deg(Motion(yaw=10, then=Motion(forward=1)), Motion(), 33) == pytest.approx(
        10
    )
    assert Motion(yaw=10, then=Motion(yaw=5)).mirrored == Motion(yaw=-10, then=Motion(yaw=-5))


def test_paths_are_slow_hurried_still_eased_and_of_two_parts_as_often_as_they_should() -> None:
    motions = [draw_motion(Random(f"motion {seed}")) for seed in range(2000)]
    turns = [abs(motion.yaw) for motion in motions if motion.yaw]
    assert max(turns) <= 12
    # Of turns of 3 to 6 twice as fast, all are beyond 6.
    assert 0.65 < np.mean([turn > 6 for turn in turns]) < 0.75
    assert 0.65 < np.mean([motion.is_hurried for motion in motions]) < 0.75
    assert max(abs(motion.pitch) for motion in motions) <= 10
    unsteady = np.mean([motion.eased or motion.then is not None for motion in motions])
    assert 0.2 < unsteady < 0.3
    assert 0.02 < np.mean([not any(motion.rates) for motion in motions]) < 0.07


def test_who_hurries_goes_the_same_way_twice_as_fast() -> None:
    motion = Motion(forward=1, yaw=10, eased=True, then=Motion(right=1, pitch=4))
    twice = Motion(forward=2, yaw=20, eased=True, then=Motion(right=2, pitch=8))
    assert motion.hurried == twice
    assert twice.is_hurried
    assert Motion(then=Motion(yaw=9)).is_hurried
    assert not Motion(forward=0.8, right=0.6, yaw=6, pitch=5).is_hurried


@pytest.mark.parametrize("move", [Move.YAW, Move.ORBIT, Move.MIXTURE])
def test_a_given_move_is_never_hurried(move: Move) -> None:
    motions = [draw_motion(Random(seed), move) for seed in range(100)]
    assert all(3 <= abs(motion.yaw) <= 6 for motion in motions)


def test_things_stand_where_the_first_frame_shows_them() -> None:
    for seed in range(50):
        world, _ = draw_scene(seed, 33)
        x, _, z = world.centres.unbind(1)
        placed = z > -60  # the others found no place
        assert torch.atan2(x, z)[placed].abs().max() <= 0.7
        assert torch.hypot(x, z)[placed].min() >= 3.5


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
    world = _still(11).world
    frames = truth(show(world, motion, VideoShape(9, 96, 160), device=CPU))
    assert getattr(apparent_motion(frames), name) * getattr(motion, name) > 0


def test_a_caption_names_what_is_seen_and_what_will_change() -> None:
    clip = _still(3)
    world = clip.world.turning(Mood("night", clip.world.before.weather))
    seen = torch.zeros(9, len(world.colours))
    seen[:, 0], seen[4, 7] = 0.2, 0.1
    text = caption(world, seen)
    assert f"{world.colours[0]} column" in text
    assert f"{world.colours[7]} box" in text
    assert text.endswith("Then night falls.") == (world.before.time != "night")
    assert "wall" not in text


def test_night_is_darker_than_day_at_the_end_only() -> None:
    shape = VideoShape(num_frames=33, height=16, width=32)
    world = _still(7).world
    day = Mood("day", "clear")
    still = replace(world, before=day, after=day)
    dark = still.turning(Mood("night", "clear"))
    bright, dim = (truth(show(w, Motion(), shape, device=CPU)) for w in (still, dark))
    assert np.array_equal(bright[0], dim[0])
    assert late_colours(dim).mean() < 0.6 * late_colours(bright).mean()


def _still(seed: int) -> Clip:
    return draw_clip(seed, device=CPU, shape=SHAPE, still_mood=True)


def test_the_follower_knows_all_that_the_first_frame_shows() -> None:
    clip = _still(3)
    standing = to_bytes(follow(clip.world, Motion(), SHAPE, device=CPU)).numpy()
    still = truth(show(clip.world, Motion(), SHAPE, device=CPU))
    assert psnr(standing, still) > 30
    turning = Motion(yaw=20)
    frames = truth(show(clip.world, turning, SHAPE, device=CPU))
    right, wrong = (
        to_bytes(follow(clip.world, motion, SHAPE, device=CPU)).numpy()
        for motion in (turning, turning.mirrored)
    )
    assert psnr(right, frames) > psnr(wrong, frames) + 2


def test_the_follower_guesses_one_colour_a_row_where_nothing_is_known() -> None:
    away = Motion(yaw=16 * 90)  # a quarter turn with each frame
    frames = follow(_still(3).world, away, SHAPE, device=CPU)
    behind = frames[:, 2]
    assert torch.allclose(behind, behind[:, :, :1].expand_as(behind), atol=1e-5)
