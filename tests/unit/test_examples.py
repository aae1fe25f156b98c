"""The example inputs are what `examples/make_inputs.py` draws, and the page's are the same."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from examples.make_inputs import MOTION, WORLD, camera, first_frame
from model.nano.captions import mood_phrase
from model.nano.clips import HELD_OUT_FROM, SHAPE
from model.nano.paths import walk
from model.nano.world import draw_world

ROOT = Path(__file__).parents[2]
EXAMPLES, PAGE = ROOT / "examples", ROOT / "deployments/page"


def test_they_show_a_world_that_nobody_trained_on() -> None:
    assert WORLD >= HELD_OUT_FROM
    world = draw_world(WORLD, walk(MOTION, SHAPE.num_frames))
    drawn = first_frame(world).astype(int)
    shown = np.asarray(Image.open(EXAMPLES / "image.png")).astype(int)
    assert drawn.shape == (480, 832, 3)
    assert abs(drawn - shown).max() <= 1  # another processor may round otherwise
    assert mood_phrase(world.before) in (EXAMPLES / "prompt.txt").read_text()


def test_the_camera_path_is_that_of_its_motion() -> None:
    for name, values in zip(("poses", "intrinsics"), camera(), strict=True):
        np.testing.assert_allclose(np.load(EXAMPLES / f"camera/{name}.npy"), values, atol=1e-6)
    assert camera()[0].shape == (SHAPE.num_frames, 4, 4)


def test_the_page_has_the_same_example() -> None:
    assert (PAGE / "example.png").read_bytes() == (EXAMPLES / "image.png").read_bytes()
    fields = json.loads((PAGE / "example.json").read_text())
    assert fields["prompt"] == (EXAMPLES / "prompt.txt").read_text().strip()
    assert fields["frames"] == SHAPE.num_frames
