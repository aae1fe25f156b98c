"""Camera paths like a person's: walking, turning, looking around.

World axes are those of the camera conventions (OpenCV): x right, y down, z forward; the ground is
`EYE_HEIGHT_M` below the first camera. A path turns and walks at rates in the camera's own frame,
which makes lines, turns, arcs and orbits alike. Rates stay the same, set in gently, or change once.
"""

import math
from dataclasses import dataclass, replace
from enum import Enum
from random import Random

import numpy as np
import torch
from torch import Tensor

from model.types import FPS, CameraPath

EYE_HEIGHT_M = 1.6
WALKING_M_PER_S = 1.0  # a stroll
# Of who does not hurry; what the first frame shows is then still in view after four seconds.
FASTEST_TURN_DEG_PER_S = 6.0
FASTEST_TILT_DEG_PER_S = 5.0
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
    STILL = "still"
    MIXTURE = "mixture"


# How often each is drawn, in percent.
_FREQUENCIES = {
    Move.FORWARD: 6,
    Move.BACK: 3,
    Move.STRAFE: 4,
    Move.YAW: 13,
    Move.PITCH: 8,
    Move.RISE: 3,
    Move.ORBIT: 25,
    Move.STILL: 3,
    Move.MIXTURE: 35,
}
_UNSTEADY = 0.25  # share of paths that are eased or have two parts
HURRIED_SHARE = 0.7  # of paths, on which all goes twice as fast
_EASE_S = 1.0
_FIRST_PART_S = 1.0


@dataclass(frozen=True, slots=True)
class Motion:
    """Rates of a path, in the frame of a camera that is level but for its pitch.

    The fastest walk of whoever does not hurry is always `WALKING_M_PER_S`: the server tells a
    model a path's shape and not its scale, so the scale must be one that it can know.

    Args:
        right: Share of the walking speed to the right.
        down: Share downwards.
        forward: Share forwards.
        yaw: Degrees per second, to the right.
        pitch: Degrees per second, upwards.
        eased: Whether it sets in over the first second.
        then: What follows after the first second; None goes on as before.
    """

    right: float = 0.0
    down: float = 0.0
    forward: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    eased: bool = False
    then: "Motion | None" = None

    @property
    def rates(self) -> tuple[float, ...]:
        """Right, down, forward, yaw and pitch."""
        return (self.right, self.down, self.forward, self.yaw, self.pitch)

    @property
    def hurried(self) -> "Motion":
        """All of it twice as fast."""
        right, down, forward, yaw, pitch = (2 * rate for rate in self.rates)
        then = None if self.then is None else self.then.hurried
        return Motion(right, down, forward, yaw, pitch, self.eased, then)

    @property
    def is_hurried(self) -> bool:
        """Whether any of it is faster than who does not hurry is."""
        own = (
            math.hypot(self.right, self.down, self.forward) > 1.01  # 1, but for rounding
            or abs(self.yaw) > FASTEST_TURN_DEG_PER_S
            or abs(self.pitch) > FASTEST_TILT_DEG_PER_S
        )
        return own or (self.then is not None and self.then.is_hurried)

    @property
    def mirrored(self) -> "Motion":
        """The same walk, turning to the other side."""
        then = None if self.then is None else self.then.mirrored
        return replace(self, yaw=-self.yaw, then=then)


def draw_motion(random: Random, move: Move | None = None) -> Motion:
    """A random path.

    Args:
        random: Where chance comes from.
        move: Of this kind, at steady and unhurried rates; None draws kind and course as well.
    """
    if move is not None:
        return _steady(random, move)
    motion = _any_motion(random)
    if random.random() >= _UNSTEADY:
        return motion
    if random.random() < 0.5:
        return replace(motion, eased=True)
    return replace(motion, then=_any_motion(random))


def _any_motion(random: Random) -> Motion:
    move = random.choices(list(_FREQUENCIES), list(_FREQUENCIES.values()))[0]
    motion = _steady(random, move)
    return motion.hurried if random.random() < HURRIED_SHARE else motion


def _steady(random: Random, move: Move) -> Motion:
    """A move at the same rates all along."""
    side = random.choice((-1.0, 1.0))
    turn = side * random.uniform(3, FASTEST_TURN_DEG_PER_S)
    simple = {
        Move.FORWARD: Motion(forward=1),
        Move.BACK: Motion(forward=-1),
        Move.STRAFE: Motion(right=side),
        Move.RISE: Motion(down=-1),
        Move.YAW: Motion(yaw=turn),
        Move.PITCH: Motion(pitch=side * random.uniform(2, FASTEST_TILT_DEG_PER_S)),
        # Walking sideways around what is ahead.
        Move.ORBIT: Motion(right=-side, yaw=side * random.uniform(3.5, FASTEST_TURN_DEG_PER_S)),
        Move.STILL: Motion(),
    }
    return simple[move] if move in simple else _mixture(random, turn)


def _mixture(random: Random, turn: float) -> Motion:
    """Walking somewhere while turning, at times backwards, at times looking up or down."""
    heading = math.radians(random.uniform(-60, 60) + random.choice((0, 0, 0, 0, 180)))
    pitch = random.choice((0, 0, random.uniform(-3, 3)))
    return Motion(math.sin(heading), 0.0, math.cos(heading), turn, pitch)


def walk(motion: Motion, num_frames: int, *, fps: int = FPS) -> Tensor:
    """Poses of a path that starts at the origin, level, looking along z.

    A longer walk begins like a shorter one.

    Args:
        motion: Its rates.
        num_frames: Pixel frames.
        fps: Of the clip.

    Returns:
        Camera-to-world [num_frames, 4, 4], float64, metres.
    """
    rates = _rates(motion, torch.arange(num_frames, dtype=torch.float64) / fps)
    yaw, pitch = (_sum_before(torch.deg2rad(rates[:, axis]) / fps) for axis in (3, 4))
    level = _rotations(yaw, torch.zeros_like(yaw))
    steps = (level @ rates[:, :3, None]).squeeze(-1) * WALKING_M_PER_S / fps
    poses = torch.eye(4, dtype=torch.float64).repeat(num_frames, 1, 1)
    poses[:, :3, :3] = _rotations(yaw, pitch)
    poses[:, :3, 3] = _sum_before(steps)
    return poses


def turned_apart_deg(a: Motion, b: Motion, num_frames: int) -> float:
    """Angle between where two paths look in the end."""
    ends = [walk(motion, num_frames)[-1, :3, :3] for motion in (a, b)]
    cosine = ((ends[0].mT @ ends[1]).trace() - 1) / 2
    return math.degrees(math.acos(max(-1.0, min(1.0, float(cosine)))))


def _rates(motion: Motion, time_s: Tensor) -> Tensor:
    """Rates of each frame, [N, 5]."""
    rates = torch.tensor(motion.rates, dtype=torch.float64).expand(len(time_s), -1)
    if motion.eased:
        share = (time_s / _EASE_S).clamp(0, 1)
        rates = rates * (share * share * (3 - 2 * share))[:, None]
    if motion.then is None:
        return rates
    return torch.where(time_s[:, None] < _FIRST_PART_S, rates, _rates(motion.then, time_s))


def _sum_before(steps: Tensor) -> Tensor:
    """Sum of the steps before each frame."""
    return steps.cumsum(0) - steps


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
