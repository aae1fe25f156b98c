"""Camera paths to start from: arrays that `generate(camera=…)` takes.

Axes are OpenCV's: x right, y down, z forward; a pose takes the camera's coordinates to the world's,
and the first one is the identity. The model scales a path by its longest step, so lengths matter
only against each other.
"""

import numpy as np
import numpy.typing as npt

from model.types import CameraPath

# fx, fy, cx, cy in pixels of an 832x480 image: about 80 degrees wide.
_INTRINSICS = (500.0, 500.0, 416.0, 240.0)
_PUBLISHED_FRAMES = 81

_Poses = npt.NDArray[np.float64]


def dolly(num_frames: int = _PUBLISHED_FRAMES, *, distance: float = 1.0) -> CameraPath:
    """Moves along the line of sight.

    Args:
        num_frames: Poses, 4n+1.
        distance: How far in all; negative goes back.
    """
    poses = _still(num_frames)
    poses[:, 2, 3] = np.linspace(0.0, distance, num_frames)
    return _path(poses)


def pan(num_frames: int = _PUBLISHED_FRAMES, *, degrees: float = 30.0) -> CameraPath:
    """Turns on the spot.

    Args:
        num_frames: Poses, 4n+1.
        degrees: How far in all; positive turns to the right.
    """
    poses = _still(num_frames)
    poses[:, :3, :3] = _yaw(np.radians(np.linspace(0.0, degrees, num_frames)))
    return _path(poses)


def orbit(
    num_frames: int = _PUBLISHED_FRAMES, *, degrees: float = 30.0, radius: float = 1.0
) -> CameraPath:
    """Goes around a point ahead and keeps looking at it.

    Args:
        num_frames: Poses, 4n+1.
        degrees: Of the circle; positive moves the camera to the left, and so turns it right.
        radius: From the first position to the point.
    """
    poses = _still(num_frames)
    rotations = _yaw(np.radians(np.linspace(0.0, degrees, num_frames)))
    poses[:, :3, :3] = rotations
    # The point stays where it was: in front of every camera by `radius`.
    poses[:, :3, 3] = np.array([0.0, 0.0, radius]) - rotations[:, :, 2] * radius
    return _path(poses)


def _still(num_frames: int) -> _Poses:
    return np.tile(np.eye(4), (num_frames, 1, 1))


def _yaw(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rotations [N, 3, 3] about the axis that points down; positive turns to the right."""
    rotations = np.tile(np.eye(3), (len(angles), 1, 1))
    rotations[:, 0, 0] = rotations[:, 2, 2] = np.cos(angles)
    rotations[:, 0, 2] = np.sin(angles)
    rotations[:, 2, 0] = -np.sin(angles)
    return rotations


def _path(poses: _Poses) -> CameraPath:
    return CameraPath(poses, np.tile(np.array(_INTRINSICS), (len(poses), 1)))
