"""Frame and size arithmetic, and what a camera path is refused for."""

import numpy as np
import pytest

from model.errors import InvalidInputError
from model.geometry import check_camera, resolve_shape
from model.types import CameraPath, VideoShape

AREA_480P, AREA_720P = 480 * 832, 720 * 1280


@pytest.mark.parametrize(
    ("area", "height", "width", "expected"),
    [  # the table of published sizes
        (AREA_480P, 480, 832, (464, 832)),
        (AREA_480P, 1080, 1920, (464, 832)),
        (AREA_720P, 720, 1280, (720, 1280)),
        (AREA_720P, 480, 832, (720, 1248)),
        (AREA_480P, 512, 512, (624, 624)),
        (AREA_480P, 832, 480, (832, 480)),
        (96 * 160, 480, 832, (80, 160)),
    ],
)
def test_size_follows_area_and_aspect(area, height, width, expected):
    shape = resolve_shape(
        area=area, image_height=height, image_width=width, num_frames=81, num_poses=None
    )
    assert (shape.height, shape.width) == expected


@pytest.mark.parametrize(("asked", "poses", "given"), [(81, 33, 33), (17, 33, 17), (81, 20, 17)])
def test_poses_cap_the_frames(asked, poses, given):
    shape = resolve_shape(
        area=AREA_480P, image_height=480, image_width=832, num_frames=asked, num_poses=poses
    )
    assert shape.num_frames == given


@pytest.mark.parametrize("frames", [0, -3, 2, 80])
def test_frames_must_be_4n_plus_1(frames):
    with pytest.raises(InvalidInputError, match="4n\\+1") as error:
        resolve_shape(
            area=AREA_480P, image_height=480, image_width=832, num_frames=frames, num_poses=None
        )
    assert error.value.field == "num_frames"


def test_an_area_without_tokens_is_refused():
    with pytest.raises(InvalidInputError, match="too small"):
        resolve_shape(area=100, image_height=480, image_width=832, num_frames=1, num_poses=None)


def test_latent_sizes():
    shape = VideoShape(num_frames=161, height=464, width=832)
    assert (shape.latent_frames, shape.latent_height, shape.latent_width) == (41, 58, 104)


def still(num_poses=5):
    return np.tile(np.eye(4), (num_poses, 1, 1)), np.tile([500.0, 500, 416, 240], (num_poses, 1))


def test_a_still_camera_passes():
    check_camera(CameraPath(*still()))


def spoil(array, index, value):
    spoiled = array.copy()
    spoiled[index] = value
    return spoiled


POSES, INTRINSICS = still()


@pytest.mark.parametrize(
    ("poses", "intrinsics", "field", "message"),
    [
        (POSES[:, :3], INTRINSICS, "camera.poses", "4,4"),
        (POSES[:0], INTRINSICS, "camera.poses", "4,4"),
        (spoil(POSES, (3, 0, 3), np.nan), INTRINSICS, "camera.poses", "pose 3 is not finite"),
        (spoil(POSES, (2, 0, 0), 1.1), INTRINSICS, "camera.poses", "pose 2 is not rigid"),
        (spoil(POSES, (1, 0, 0), -1.0), INTRINSICS, "camera.poses", "pose 1 is not rigid"),
        (spoil(POSES, (4, 3, 0), 1.0), INTRINSICS, "camera.poses", "pose 4 is not rigid"),
        (POSES, INTRINSICS[:, :3], "camera.intrinsics", "fx, fy, cx, cy"),
        (POSES, spoil(INTRINSICS, (1, 2), np.inf), "camera.intrinsics", "row 1 is not finite"),
        (POSES, INTRINSICS / 832, "camera.intrinsics", "832x480"),
    ],
)
def test_bad_cameras_are_refused_by_field(poses, intrinsics, field, message):
    with pytest.raises(InvalidInputError, match=message) as error:
        check_camera(CameraPath(poses, intrinsics))
    assert error.value.field == field
