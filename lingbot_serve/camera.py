"""Camera paths to start from: arrays that `generate(camera=…)` takes.

Axes are OpenCV's: x right, y down, z forward; a pose takes the camera's coordinates to the world's,
and the first one is the identity. The model scales a path by its longest step, so lengths matter
only against each other. What is left out goes at a stroll, which examples/nano was trained on.
"""

import numpy as np
import numpy.typing as npt

from model.types import FPS, CameraPath

# fx, fy, cx, cy in pixels of an 832x480 image: about 80 degrees wide.
_INTRINSICS = (500.0, 500.0, 416.0, 240.0)
_PUBLISHED_FRAMES = 81
_WALKING_M_PER_S = 1.0
_PANNING_DEG_PER_S = 6.0
_ORBITING_DEG_PER_S = 6.0
_ORBIT_RADIUS_M = 9.5  # where orbiting is walking

_Poses = npt.NDArray[np.float64]


def dolly(num_frames: int = _PUBLISHED_FRAMES, *, distance: float | None = None) -> CameraPath:
    """Moves along the line of sight.

    Args:
        num_frames: Poses, 4n+1.
        distance: Metres in all; negative goes back. Left out: at a walk of 1 m/s.
    """
    poses = _still(num_frames)
    poses[:, 2, 3] = _evenly(num_frames, distance, _WALKING_M_PER_S)
    return _path(poses)


def pan(num_frames: int = _PUBLISHED_FRAMES, *, degrees: float | None = None) -> CameraPath:
    """Turns on the spot.

    Args:
        num_frames: Poses, 4n+1.
        degrees: How far in all; positive turns to the right. Left out: 6 a second.
    """
    poses = _still(num_frames)
    poses[:, :3, :3] = _yaw(np.radians(_evenly(num_frames, degrees, _PANNING_DEG_PER_S)))
    return _path(poses)


def orbit(
    num_frames: int = _PUBLISHED_FRAMES,
    *,
    degrees: float | None = None,
    radius: float = _ORBIT_RADIUS_M,
) -> CameraPath:
    """Goes around a point ahead and keeps looking at it.

    Args:
        num_frames: Poses, 4n+1.
        degrees: Of the circle; positive moves the camera to the left, and so turns it right. Left
            out: 6 a second.
        radius: From the first position to the point, metres.
    """
    poses = _still(num_frames)
    rotations = _yaw(np.radians(_evenly(num_frames, degrees, _ORBITING_DEG_PER_S)))
    poses[:, :3, :3] = rotations
    # The point stays where it was: in front of every camera by `radius`.
    poses[:, :3, 3] = np.array([0.0, 0.0, radius]) - rotations[:, :, 2] * radius
    return _path(poses)


def _still(num_frames: int) -> _Poses:
    return np.tile(np.eye(4), (num_frames, 1, 1))


def _evenly(num_frames: int, amount: float | None, rate_per_s: float) -> npt.NDArray[np.float64]:
    """From 0 to an amount; by default what a rate comes to in the time of the clip."""
    whole = rate_per_s * (num_frames - 1) / FPS if amount is None else amount
    return np.linspace(0.0, whole, num_frames)


def _yaw(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rotations [N, 3, 3] about the axis that points down; positive turns to the right."""
    rotations = np.tile(np.eye(3), (len(angles), 1, 1))
    rotations[:, 0, 0] = rotations[:, 2, 2] = np.cos(angles)
    rotations[:, 0, 2] = np.sin(angles)
    rotations[:, 2, 0] = -np.sin(angles)
    return rotations


def _path(poses: _Poses) -> CameraPath:
    return CameraPath(poses, np.tile(np.array(_INTRINSICS), (len(poses), 1)))
