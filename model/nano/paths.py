"""Camera paths like a person's: walking, turning, looking around.

World axes are those of the camera conventions (OpenCV): x right, y down, z forward; the ground is
`EYE_HEIGHT_M` below the first camera. A path turns and walks at rates that stay the same in the
camera's own frame, which makes lines, turns, arcs and orbits alike.
"""

import math
from dataclasses import dataclass
from enum import Enum
from random import Random

import numpy as np
import torch
from torch import Tensor

from model.types import FPS, CameraPath

EYE_HEIGHT_M = 1.6
WALKING_M_PER_S = 1.4
FOCAL_LENGTH = 500.0  # pixels of an 832x480 image
INTRINSICS = (FOCAL_LENGTH, FOCAL_LENGTH, 416.0, 240.0)


class Move(str, Enum):
    """Kinds of paths."""

    FORWARD = "forward"
    BACK = "back"
    STRAFE = "strafe"
    YAW = "yaw"
    PITCH = "pitch"
    RISE = "rise"
    ORBIT = "orbit"
    MIXTURE = "mixture"


@dataclass(frozen=True, slots=True)
class Motion:
    """Rates of a path, in the frame of a camera that is level but for its pitch.

    The fastest walk is always `WALKING_M_PER_S`: the model is told a path's shape and not its
    scale, so the scale must be one that it can know.

    Args:
        right: Share of the walking speed to the right.
        down: Share downwards.
        forward: Share forwards.
        yaw: Degrees per second, to the right.
        pitch: Degrees per second, upwards.
    """

    right: float = 0.0
    down: float = 0.0
    forward: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0

    @property
    def mirrored(self) -> "Motion":
        """The same walk, turning to the other side."""
        return Motion(self.right, self.down, self.forward, -self.yaw, self.pitch)


def draw_motion(random: Random, move: Move | None = None) -> Motion:
    """A random path of a kind, or of any kind.

    Args:
        random: Where chance comes from.
        move: None draws the kind as well, mixtures most often.
    """
    move = random.choice([*Move, *[Move.MIXTURE] * 5, Move.ORBIT]) if move is None else move
    side = random.choice((-1.0, 1.0))
    turn = side * random.uniform(10, 25)
    simple = {
        Move.FORWARD: Motion(forward=1),
        Move.BACK: Motion(forward=-1),
        Move.STRAFE: Motion(right=side),
        Move.RISE: Motion(down=-1),
        Move.YAW: Motion(yaw=turn),
        Move.PITCH: Motion(pitch=side * random.uniform(5, 9)),
        # Walking sideways around what is ahead.
        Move.ORBIT: Motion(right=-side, yaw=side * random.uniform(12, 22)),
    }
    return simple[move] if move in simple else _mixture(random, turn)


def _mixture(random: Random, turn: float) -> Motion:
    """Walking somewhere while turning, at times backwards, at times looking up or down."""
    heading = math.radians(random.uniform(-60, 60) + random.choice((0, 0, 0, 0, 180)))
    pitch = random.choice((0, 0, random.uniform(-4, 4)))
    return Motion(math.sin(heading), 0.0, math.cos(heading), turn, pitch)


def walk(motion: Motion, num_frames: int, *, fps: int = FPS) -> Tensor:
    """Poses of a path that starts at the origin, level, looking along z.

    Args:
        motion: Its rates.
        num_frames: Pixel frames.
        fps: Of the clip.

    Returns:
        Camera-to-world [num_frames, 4, 4], float64, metres.
    """
    time_s = torch.arange(num_frames, dtype=torch.float64) / fps
    rotations = _rotations(torch.deg2rad(motion.yaw * time_s), torch.deg2rad(motion.pitch * time_s))
    level = _rotations(torch.deg2rad(motion.yaw * time_s), torch.zeros_like(time_s))
    velocity = torch.tensor([motion.right, motion.down, motion.forward], dtype=torch.float64)
    steps = level @ (velocity * WALKING_M_PER_S / fps)
    poses = torch.eye(4, dtype=torch.float64).repeat(num_frames, 1, 1)
    poses[:, :3, :3] = rotations
    poses[1:, :3, 3] = steps[:-1].cumsum(0)
    return poses


def camera_path(motion: Motion, num_frames: int) -> CameraPath:
    """A path as requests carry it."""
    poses = walk(motion, num_frames).numpy()
    return CameraPath(poses=poses, intrinsics=np.tile(np.array(INTRINSICS), (num_frames, 1)))


def _rotations(yaw: Tensor, pitch: Tensor) -> Tensor:
    """Turned about the vertical, then tilted: [N] and [N] radians to [N, 3, 3]."""
    cos, sin, zero, one = yaw.cos(), yaw.sin(), torch.zeros_like(yaw), torch.ones_like(yaw)
    turned = torch.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], -1).view(-1, 3, 3)
    cos, sin = pitch.cos(), pitch.sin()  # upwards is towards -y
    tilted = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], -1).view(-1, 3, 3)
    return turned @ tilted
