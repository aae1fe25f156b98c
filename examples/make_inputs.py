"""Writes the example's first frame, prompt and camera path: a world that nano was not trained on.

    python examples/make_inputs.py

The page's example is the same picture, prompt and path.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from model.nano.clips import HELD_OUT_FROM, SHAPE, show, to_bytes
from model.nano.paths import FASTEST_TURN_DEG_PER_S, Motion, camera_path, walk
from model.nano.render import render
from model.nano.world import World, draw_world
from model.types import UInt8Array, VideoShape

WORLD = HELD_OUT_FROM + 3
PRESET, AMOUNT = "orbit", 80  # of the page, which makes this of them:
MOTION = Motion(right=-1, yaw=FASTEST_TURN_DEG_PER_S * AMOUNT / 100)
IMAGE = VideoShape(num_frames=1, height=480, width=832)
# The server takes single pixels when it shrinks pictures: each shall stand for those around it.
BLUR = 5
CPU = torch.device("cpu")


def main(examples: Path, page: Path) -> None:
    """Writes everything.

    Args:
        examples: Where image.png, prompt.txt and camera/ go.
        page: Where the page's example goes.
    """
    world = draw_world(WORLD, walk(MOTION, SHAPE.num_frames))
    prompt = show(world, MOTION, SHAPE, device=CPU).caption
    poses, intrinsics = camera()
    (examples / "camera").mkdir(exist_ok=True)
    np.save(examples / "camera/poses.npy", poses)
    np.save(examples / "camera/intrinsics.npy", intrinsics)
    (examples / "prompt.txt").write_text(f"{prompt}\n")
    for path in (examples / "image.png", page / "example.png"):
        Image.fromarray(first_frame(world)).save(path, optimize=True)
    fields = {"prompt": prompt, "frames": SHAPE.num_frames, "preset": PRESET, "amount": AMOUNT}
    (page / "example.json").write_text(json.dumps(fields, indent=2) + "\n")


def camera() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Poses [33, 4, 4] and intrinsics [33, 4]."""
    path = camera_path(MOTION, SHAPE.num_frames)
    return path.poses.astype(np.float32), path.intrinsics.astype(np.float32)


def first_frame(world: World) -> UInt8Array:
    """What is seen at first, in the size that cameras are told in: uint8 [480, 832, 3]."""
    pixels = render(world, walk(MOTION, 1), IMAGE, device=CPU).pixels
    frame: UInt8Array = to_bytes(_blurred(pixels))[0].numpy()
    return frame


def _blurred(pixels_3NHW: Tensor) -> Tensor:
    edge = BLUR // 2
    padded = F.pad(pixels_3NHW, (edge, edge, edge, edge), mode="replicate")
    return F.avg_pool2d(padded, BLUR, stride=1)


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    main(here, here.parent / "deployments/page")
