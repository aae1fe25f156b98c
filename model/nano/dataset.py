"""Rendered clips on disk, in shards; and the tokenizer of their captions.

python -m model.nano data DIR --clips 24000
"""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.checkpoint.synthetic_tokenizer import train_tokenizer, write_tokenizer
from model.nano.clips import HELD_OUT_FROM, SHAPE, Clip, draw_clip
from model.prompts import DEFAULT_NEGATIVE_PROMPT
from model.types import VideoShape

logger = logging.getLogger(__name__)

CLIPS_PER_SHARD = 500
TOKENIZER = "tokenizer"
_CAPTIONS = "captions"


@dataclass(frozen=True, slots=True)
class Shard:
    """Some clips.

    Args:
        pixels_BNHW3: uint8.
        poses_BN44: Camera-to-world, float64, metres.
        captions: One for each.
    """

    pixels_BNHW3: Tensor
    poses_BN44: Tensor
    captions: list[str]


def write_dataset(
    folder: Path,
    *,
    num_clips: int,
    device: torch.device,
    vocab_size: int,
    shape: VideoShape = SHAPE,
    first_seed: int = 0,
) -> None:
    """Renders clips of consecutive seeds, and trains the tokenizer on their captions.

    Args:
        folder: Where; it is made.
        num_clips: How many.
        device: Where to render.
        vocab_size: Of the tokenizer.
        shape: Size of each clip.
        first_seed: Of the first clip; the last must be below `HELD_OUT_FROM`.
    """
    assert first_seed + num_clips <= HELD_OUT_FROM, "those seeds are for evaluation"
    folder.mkdir(parents=True)
    captions: list[str] = []
    start_s = time.perf_counter()
    for number, start in enumerate(range(0, num_clips, CLIPS_PER_SHARD)):
        seeds = range(start, min(start + CLIPS_PER_SHARD, num_clips))
        clips = [_small(draw_clip(first_seed + s, device=device, shape=shape)) for s in seeds]
        captions += [text for _, _, text in clips]
        _save(folder / f"{number:05d}.safetensors", clips)
        logger.info("clips %d, %.0f s", seeds.stop, time.perf_counter() - start_s)
    corpus = [*captions, *[DEFAULT_NEGATIVE_PROMPT] * 50]
    write_tokenizer(folder / TOKENIZER, train_tokenizer(corpus, vocab_size))


def shards(folder: Path) -> Iterator[Shard]:
    """The clips of a folder, shard by shard."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            captions = json.loads(file.metadata()[_CAPTIONS])
            yield Shard(file.get_tensor("pixels"), file.get_tensor("poses"), captions)


def _small(clip: Clip) -> tuple[Tensor, Tensor, str]:
    """What is kept of a clip."""
    pixels = ((clip.pixels_3NHW + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(1, 2, 3, 0).cpu(), clip.poses_N44, clip.caption


def _save(path: Path, clips: list[tuple[Tensor, Tensor, str]]) -> None:
    pixels, poses, captions = zip(*clips, strict=True)
    tensors = {"pixels": torch.stack(pixels), "poses": torch.stack(poses)}
    save_file(tensors, path, metadata={_CAPTIONS: json.dumps(captions)})
