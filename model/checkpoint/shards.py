"""Which safetensors file holds each tensor, and of what shape it is; found without torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from model.checkpoint.layout import INDEX_SUFFIX
from model.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Shards:
    """One safetensors file, or the shards that an index file lists.

    Args:
        name: Where the tensors come from, for error messages.
        file_of: Each tensor's file, by its key on disk.
    """

    name: str
    file_of: Mapping[str, Path]

    def read_shapes(self) -> Shapes:
        """Shape of every tensor; only headers are read."""
        shapes: dict[str, tuple[int, ...]] = {}
        for path in dict.fromkeys(self.file_of.values()):
            # Any framework tells of shapes, and this one does so without torch.
            with safe_open(path, framework="np") as file:
                keys = file.keys()
                shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in keys}
        return shapes


def find_shards(directory: Path, stem: str) -> Shards:
    """`stem.safetensors`, or the shards of `stem.safetensors.index.json`.

    Raises:
        CheckpointError: Neither exists, or a shard that the index names is missing.
    """
    single, index = directory / f"{stem}.safetensors", directory / f"{stem}{INDEX_SUFFIX}"
    if single.is_file():
        with safe_open(single, framework="np") as file:
            return Shards(str(single), dict.fromkeys(file.keys(), single))
    if not index.is_file():
        raise CheckpointError(f"{directory} holds neither {single.name} nor {index.name}")
    weight_map: dict[str, str] = json.loads(index.read_text())["weight_map"]
    missing = sorted({file for file in weight_map.values() if not (directory / file).is_file()})
    if missing:
        raise CheckpointError(f"{index} names shards that are missing: {', '.join(missing)}")
    return Shards(str(index), {key: directory / file for key, file in weight_map.items()})
