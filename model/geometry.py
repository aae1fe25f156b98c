"""Frame and size arithmetic, and the checks a camera path must pass. No torch here."""

import math

import numpy as np
import numpy.typing as npt

from model.errors import InvalidInputError
from model.types import PATCH_SIZE, SPATIAL_STRIDE, TEMPORAL_STRIDE, CameraPath, VideoShape

RIGID_TOLERANCE = 1e-3  # float32 files and 5-decimal text both pass


def resolve_shape(
    *, area: int, image_height: int, image_width: int, num_frames: int, num_poses: int | None
) -> VideoShape:
    """Real size of a clip, from the area asked for and the image's aspect, as published.

    Args:
        area: Pixels of one frame asked for; the result is floored to multiples of 16.
        image_height: Height of the first frame's image, pixels.
        image_width: Its width, pixels.
        num_frames: Frames asked for, 4n+1.
        num_poses: Length of the camera path, which caps the frames; None without a camera.

    Raises:
        InvalidInputError: The frames are not 4n+1, or the area leaves no token.
    """
    if num_frames < 1 or (num_frames - 1) % TEMPORAL_STRIDE:
        lower = max(1, (num_frames - 1) // TEMPORAL_STRIDE * TEMPORAL_STRIDE + 1)
        raise InvalidInputError(
            "num_frames",
            f"must be 4n+1, not {num_frames}; send {lower} or {lower + TEMPORAL_STRIDE}",
        )
    if num_poses is not None:
        num_frames = min(num_frames, (num_poses - 1) // TEMPORAL_STRIDE * TEMPORAL_STRIDE + 1)
    aspect = image_height / image_width
    height, width = _floor_to_patch(area * aspect), _floor_to_patch(area / aspect)
    if height == 0 or width == 0:
        raise InvalidInputError(
            "size", f"an area of {area} pixels is too small for an image of this aspect"
        )
    return VideoShape(num_frames=num_frames, height=height, width=width)


def _floor_to_patch(square_pixels: float) -> int:
    latent = math.sqrt(square_pixels) // SPATIAL_STRIDE // PATCH_SIZE * PATCH_SIZE
    return int(latent) * SPATIAL_STRIDE


def check_camera(camera: CameraPath) -> None:
    """Refuses a camera path that the model cannot follow.

    Raises:
        InvalidInputError: Poses that are not [N,4,4], finite and rigid, or intrinsics that are
            not [N,4], finite and positive where they must be.
    """
    _check_poses(camera.poses)
    _check_intrinsics(camera.intrinsics)


def _check_poses(poses: npt.NDArray[np.floating]) -> None:
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or len(poses) == 0:
        raise InvalidInputError(
            "camera.poses", f"must be camera-to-world matrices [N,4,4], not {list(poses.shape)}"
        )
    if not np.isfinite(poses).all():
        raise InvalidInputError("camera.poses", f"pose {_first_bad(poses)} is not finite")
    rotation = poses[:, :3, :3].astype(np.float64)
    error = np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)).max(axis=(1, 2))
    last_row = np.abs(poses[:, 3] - np.array([0, 0, 0, 1])).max(axis=1)
    bad = (error > RIGID_TOLERANCE) | (last_row > RIGID_TOLERANCE)
    bad |= np.linalg.det(rotation) < 0
    if bad.any():
        raise InvalidInputError(
            "camera.poses",
            f"pose {int(bad.argmax())} is not rigid; send a rotation (determinant +1) "
            "and a translation over the row 0 0 0 1",
        )


def _check_intrinsics(intrinsics: npt.NDArray[np.floating]) -> None:
    if intrinsics.ndim != 2 or intrinsics.shape[1] != 4 or len(intrinsics) == 0:
        raise InvalidInputError(
            "camera.intrinsics",
            f"must be rows of fx, fy, cx, cy [N,4], not {list(intrinsics.shape)}",
        )
    if not np.isfinite(intrinsics).all():
        raise InvalidInputError("camera.intrinsics", f"row {_first_bad(intrinsics)} is not finite")
    if (intrinsics[:, :2] <= 1).any():
        raise InvalidInputError(
            "camera.intrinsics",
            "fx and fy must be pixels of an 832x480 image (about 400 to 600), not normalised",
        )


def _first_bad(values: npt.NDArray[np.floating]) -> int:
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    return int(finite.argmin())
