"""From a camera path to what the DiT takes: rays per pixel, folded like the latents.

The maths is that of the published `cam_utils.py` (Robbyant/lingbot-world, 6ca87d4): the
embedding is [ray origin, ray direction], without the cross product of a Plücker line.

Shapes: N pixel frames, F latent frames, H and W pixels, h and w latent pixels.
"""

import numpy as np
import torch
from torch import Tensor

from model.types import SPATIAL_STRIDE, CameraPath, VideoShape

REFERENCE_HEIGHT, REFERENCE_WIDTH = 480, 832  # the image size that intrinsics are given for


def camera_condition(camera: CameraPath, shape: VideoShape, *, device: torch.device) -> Tensor:
    """Rays of every latent frame, 8x8 pixels folded into channels.

    Args:
        camera: At least `shape.num_frames` poses; the rest are cropped.
        shape: Size of the clip.
        device: Where to compute; the full-resolution rays take F*H*W*24 bytes there.

    Returns:
        Float32 [384, F, h, w], channel order (o or d, axis; then row and column in the fold).
    """
    poses = camera.poses[: shape.num_frames].astype(np.float64)
    c2w_F44 = relative_poses(interpolate_poses(poses, shape.latent_frames)).to(device)
    intrinsics = torch.from_numpy(camera.intrinsics[0].astype(np.float32))
    rays_FHWC = rays(c2w_F44, scale_intrinsics(intrinsics, shape), shape.height, shape.width)
    return fold(rays_FHWC)


def interpolate_poses(poses: np.ndarray, num_latent_frames: int) -> Tensor:
    """Resamples [N,4,4] poses to the latent frames: lerp for positions, slerp for rotations.

    Returns:
        Float32 [F, 4, 4].
    """
    source = np.arange(len(poses), dtype=np.float64)
    target = np.linspace(0, len(poses) - 1, num_latent_frames)
    resampled = np.tile(np.eye(4), (num_latent_frames, 1, 1))
    resampled[:, :3, :3] = _slerp(source, poses[:, :3, :3], target)
    for axis in range(3):
        resampled[:, axis, 3] = np.interp(target, source, poses[:, axis, 3])
    return torch.from_numpy(resampled).float()


def _slerp(source: np.ndarray, rotations: np.ndarray, target: np.ndarray) -> np.ndarray:
    if len(rotations) == 1:  # scipy wants two; one frame has nothing between
        return rotations
    # Here, since rays need no scipy and where the small model is trained there may be none.
    from scipy.spatial.transform import Rotation, Slerp

    return np.asarray(Slerp(source, Rotation.from_matrix(rotations))(target).as_matrix())


def relative_poses(c2w_F44: Tensor) -> Tensor:
    """Motion from each frame to the next, the longest step scaled to 1; frame 0 is identity.

    The scale is taken over the whole clip, so absolute speed is lost, as published.
    """
    in_first_F44 = invert_rigid(c2w_F44[:1]) @ c2w_F44
    in_first_F44[0] = torch.eye(4)
    relative_F44 = in_first_F44.clone()
    relative_F44[1:] = invert_rigid(in_first_F44[:-1]) @ in_first_F44[1:]
    longest = relative_F44[:, :3, 3].norm(dim=-1).max()
    if longest > 0:
        relative_F44[:, :3, 3] /= longest
    return relative_F44


def invert_rigid(pose_F44: Tensor) -> Tensor:
    """Inverse of rigid transforms [F,4,4] by transposing the rotation."""
    rotation_inv = pose_F44[:, :3, :3].mT
    inverse = torch.eye(4, device=pose_F44.device).repeat(len(pose_F44), 1, 1)
    inverse[:, :3, :3] = rotation_inv
    inverse[:, :3, 3:] = -(rotation_inv @ pose_F44[:, :3, 3:])
    return inverse


def scale_intrinsics(intrinsics: Tensor, shape: VideoShape) -> Tensor:
    """fx, fy, cx, cy of an 832x480 image, rescaled to the clip's size."""
    scale_x, scale_y = shape.width / REFERENCE_WIDTH, shape.height / REFERENCE_HEIGHT
    return intrinsics * torch.tensor([scale_x, scale_y, scale_x, scale_y])


def rays(c2w_F44: Tensor, intrinsics: Tensor, height: int, width: int) -> Tensor:
    """Origin and unit direction of the ray through every pixel's centre: [F, H, W, 6]."""
    fx, fy, cx, cy = intrinsics.tolist()
    y = (torch.arange(height, device=c2w_F44.device, dtype=torch.float32) + 0.5 - cy) / fy
    x = (torch.arange(width, device=c2w_F44.device, dtype=torch.float32) + 0.5 - cx) / fx
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    local_HW3 = torch.stack([grid_x, grid_y, torch.ones_like(grid_x)], dim=-1)
    local_HW3 = local_HW3 / local_HW3.norm(dim=-1, keepdim=True)
    direction_FHW3 = torch.einsum("fij,hwj->fhwi", c2w_F44[:, :3, :3], local_HW3)
    origin_FHW3 = c2w_F44[:, None, None, :3, 3].expand_as(direction_FHW3)
    return torch.cat([origin_FHW3, direction_FHW3], dim=-1)


def fold(rays_FHWC: Tensor) -> Tensor:
    """Folds 8x8 pixels into channels: [F, H, W, 6] to [384, F, h, w]."""
    frames, height, width, channels = rays_FHWC.shape
    s = SPATIAL_STRIDE
    blocks = rays_FHWC.view(frames, height // s, s, width // s, s, channels)
    return blocks.permute(5, 2, 4, 0, 1, 3).reshape(channels * s * s, frames, height // s, -1)
