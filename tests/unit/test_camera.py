"""The camera condition on paths whose answer is known by hand."""

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from model.camera import camera_condition, interpolate_poses, relative_poses
from model.types import CameraPath, VideoShape

SHAPE = VideoShape(num_frames=9, height=48, width=80)
CPU = torch.device("cpu")


def path(rotations=None, translations=None):
    poses = np.tile(np.eye(4), (9, 1, 1))
    if rotations is not None:
        poses[:, :3, :3] = rotations
    if translations is not None:
        poses[:, :3, 3] = translations
    return CameraPath(poses, np.tile([416.0, 240.0, 416.0, 240.0], (9, 1)))


def test_interpolation_hits_every_fourth_pose_and_turns_evenly():
    angles = np.linspace(0, 80, 9)
    rotations = Rotation.from_rotvec(np.outer(angles, [0, 1, 0]), degrees=True).as_matrix()
    resampled = interpolate_poses(path(rotations).poses, 3).numpy()
    assert np.allclose(resampled[:, :3, :3], rotations[[0, 4, 8]], atol=1e-6)
    between = interpolate_poses(path(rotations).poses, 5).numpy()[1, :3, :3]
    expected = Rotation.from_euler("y", 20, degrees=True).as_matrix()
    assert np.allclose(between, expected, atol=1e-6)


def test_relative_motion_is_per_frame_and_its_longest_step_is_one():
    positions = np.array([[0, 0, 0], [0, 0, 1.0], [0, 0, 3.0]])
    poses = torch.eye(4).repeat(3, 1, 1)
    poses[:, :3, 3] = torch.from_numpy(positions).float() + 7  # where it starts has no say
    relative = relative_poses(poses)
    assert torch.allclose(relative[:, :3, 3], torch.tensor([[0, 0, 0], [0, 0, 0.5], [0, 0, 1.0]]))


def test_a_still_camera_has_no_origin_and_looks_forward():
    rays = camera_condition(path(), SHAPE, device=CPU).view(6, 8, 8, 3, 6, 10)
    origin, direction = rays[:3], rays[3:]
    assert torch.equal(origin, torch.zeros_like(origin))
    assert torch.allclose(direction.norm(dim=0), torch.ones(8, 8, 3, 6, 10))
    assert (direction[2] > 0).all()
    # right half looks right, lower half looks down (OpenCV axes)
    assert (direction[0, ..., 5:] > 0).all() and (direction[1, ..., 3:, :] > 0).all()


def test_one_frame_is_allowed():
    rays = camera_condition(path(), VideoShape(1, 48, 80), device=CPU)
    assert rays.shape == (384, 1, 6, 10)
