"""Rendered clips on disk, in shards; and the tokenizer of their captions.

python -m model.nano data DIR --clips 3000
"""

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.checkpoint.synthetic_tokenizer import train_tokenizer, write_tokenizer
from model.errors import ConfigurationError
from model.nano.clips import SHAPE, VALIDATION_FROM, draw_clip, to_bytes
from model.nano.processes import map_in_processes
from model.nano.tokens import NEGATIVE_PROMPT
from model.nano.training import hardware
from model.types import VideoShape

logger = logging.getLogger(__name__)

CLIPS_PER_SHARD = 100
TOKENIZER = "tokenizer"
_CAPTIONS = "captions"
_FACTS = "facts.json"


@dataclass(frozen=True, slots=True)
class Shard:
    """Some clips.

    Args:
        pixels_BNHW3: uint8.
        captions: One for each.
    """

    pixels_BNHW3: Tensor
    captions: list[str]


def write_dataset(
    folder: Path,
    *,
    num_clips: int,
    device: torch.device,
    vocab_size: int,
    shape: VideoShape = SHAPE,
    workers: int = 1,
) -> None:
    """Renders the clips of the first seeds, and trains the tokenizer on their captions.

    Shards that are there already are kept: who was cut off goes on.

    Args:
        folder: Where; it is made.
        num_clips: How many.
        device: Where to render.
        vocab_size: Of the tokenizer.
        shape: Size of each clip.
        workers: Processes that render.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_shards(_RenderShard(folder, num_clips, shape, device), folder, num_clips, device, workers)
    if not (folder / TOKENIZER).exists():
        captions = [text for shard in shards(folder) for text in shard.captions]
        corpus = [*captions, *[NEGATIVE_PROMPT] * 50]
        write_tokenizer(folder / TOKENIZER, train_tokenizer(corpus, vocab_size))


def write_shards(
    work: Callable[[int], int], folder: Path, num_clips: int, device: torch.device, workers: int
) -> None:
    """Makes the shards that are missing, and notes how long it took."""
    assert num_clips <= VALIDATION_FROM, "those seeds are not for training"
    numbers = _shard_numbers(num_clips)
    missing = [number for number in numbers if not shard_path(folder, number).exists()]
    before_s = read_facts(folder).get("seconds", 0.0)
    start_s = time.perf_counter()
    for number in map_in_processes(work, missing, workers=workers):
        seconds = before_s + time.perf_counter() - start_s
        facts = {"clips": num_clips, "seconds": seconds, "hardware": hardware(device)}
        (folder / _FACTS).write_text(json.dumps(facts))
        logger.info("shard %d of %d, %.0f s", number + 1, len(numbers), seconds)


def read_facts(folder: Path) -> dict[str, Any]:
    """How many clips there are and what they took; empty where there are none."""
    path = folder / _FACTS
    facts: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return facts


def shard_path(folder: Path, number: int) -> Path:
    """Where a shard lies."""
    return folder / f"{number:05d}.safetensors"


def _shard_numbers(num_clips: int) -> range:
    return range(-(-num_clips // CLIPS_PER_SHARD))


def shard_seeds(number: int, num_clips: int) -> range:
    """Seeds of a shard's clips."""
    start = number * CLIPS_PER_SHARD
    return range(start, min(start + CLIPS_PER_SHARD, num_clips))


def save_shard(path: Path, tensors: dict[str, Tensor], captions: list[str]) -> None:
    """Writes a shard, whole or not at all."""
    unfinished = path.with_suffix(".unfinished")
    save_file(tensors, unfinished, metadata={_CAPTIONS: json.dumps(captions)})
    unfinished.replace(path)


def read_shards(folder: Path) -> Iterator[tuple[dict[str, Tensor], list[str]]]:
    """Tensors and captions of a folder, shard by shard.

    Raises:
        ConfigurationError: There are none, or the command that makes them was cut off.
    """
    num_clips = read_facts(folder).get("clips", 0)
    paths = [shard_path(folder, number) for number in _shard_numbers(num_clips)]
    if not paths:
        raise ConfigurationError(f"{folder} holds no clips; `data` and `encode` make them")
    if missing := [path.name for path in paths if not path.exists()]:
        raise ConfigurationError(
            f"{folder} lacks {len(missing)} of {len(paths)} shards, {missing[0]} first; "
            "run the command that made the others once more"
        )
    for path in paths:
        with safe_open(path, framework="pt") as file:
            captions = json.loads(file.metadata()[_CAPTIONS])
            yield {name: file.get_tensor(name) for name in file.keys()}, captions  # noqa: SIM118


def shards(folder: Path) -> Iterator[Shard]:
    """The clips of a folder, shard by shard."""
    for tensors, captions in read_shards(folder):
        yield Shard(tensors["pixels"], captions)


@dataclass(frozen=True, slots=True)
class _RenderShard:
    """Renders one shard."""

    folder: Path
    num_clips: int
    shape: VideoShape
    device: torch.device

    def __call__(self, number: int) -> int:
        clips = [
            draw_clip(seed, device=self.device, shape=self.shape)
            for seed in shard_seeds(number, self.num_clips)
        ]
        pixels = torch.stack([to_bytes(clip.pixels_3NHW).cpu() for clip in clips])
        captions = [clip.caption for clip in clips]
        save_shard(shard_path(self.folder, number), {"pixels": pixels}, captions)
        return number
