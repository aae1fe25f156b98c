"""Pictures of a clip against its frames."""

import io

import numpy as np
import pytest
from PIL import Image

from deployments.stills import StillsWriter


def frames(num_frames: int, height: int = 64, width: int = 96) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 100, (num_frames, height, width, 3), np.uint8)
    return noise + np.arange(num_frames, dtype=np.uint8)[:, None, None, None] * 10


@pytest.mark.parametrize("parts", [[1, 4, 4], [9], [5, 4]])
def test_pictures_are_the_frames_they_should_be(parts: list[int]) -> None:
    clip = frames(9)
    writer = StillsWriter(9)
    for part in np.split(clip, np.cumsum(parts)[:-1]):
        writer.write(part)
    stills = writer.finish()
    last = np.asarray(Image.open(io.BytesIO(stills.last_frame)))
    np.testing.assert_array_equal(last, clip[-1])
    thumbnail = np.asarray(Image.open(io.BytesIO(stills.thumbnail)), np.float32)
    distances = [abs(thumbnail.mean() - frame.mean()) for frame in clip]
    assert int(np.argmin(distances)) == 4


def test_a_thumbnail_is_small_and_keeps_its_shape() -> None:
    writer = StillsWriter(1)
    writer.write(frames(1, 480, 832))
    stills = writer.finish()
    assert Image.open(io.BytesIO(stills.thumbnail)).size == (320, 185)
    assert Image.open(io.BytesIO(stills.last_frame)).size == (832, 480)
    assert len(stills.thumbnail) < 100_000
