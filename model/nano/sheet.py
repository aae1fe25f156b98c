"""A contact sheet: the renderer's frames above, a checkpoint's below, one pair for each path.

python -m model.nano sheet CHECKPOINT OUT.jpg
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from model.nano.clips import HELD_OUT_FROM, SHAPE, draw_clip
from model.nano.frames import truth
from model.nano.paths import Move, camera_path
from model.nano.studio import Studio, Take
from model.types import VideoShape

MOVES = (Move.YAW, Move.FORWARD, Move.ORBIT, Move.MIXTURE)
_COLUMNS = 6
_GAP = 4


def write_sheet(
    studio: Studio, path: Path, *, seed: int, device: torch.device, shape: VideoShape = SHAPE
) -> None:
    """Draws held-out worlds, makes their clips, and writes both side by side.

    Args:
        studio: The checkpoint.
        path: Picture to write; its ending says of what kind.
        seed: Another seed, other worlds.
        device: Where the renderer works.
        shape: Size of the clips.
    """
    rows = []
    for number, move in enumerate(MOVES):
        world_seed = HELD_OUT_FROM + seed + number
        clip = draw_clip(world_seed, device=device, shape=shape, move=move)
        frames = truth(clip)
        camera = camera_path(clip.motion, shape.num_frames)
        made = studio.make(Take(frames[0], clip.caption, camera, world_seed), shape).frames
        chosen = np.linspace(0, shape.num_frames - 1, _COLUMNS).round().astype(int)
        rows += [np.concatenate(list(each[chosen]), axis=1) for each in (frames, made)]
        rows.append(np.full((_GAP, rows[0].shape[1], 3), 255, np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows[:-1])).save(path, quality=92, optimize=True)
