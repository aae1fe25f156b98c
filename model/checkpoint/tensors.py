"""Named tensors on disk, read slice by slice so that nobody holds a whole file in memory."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from model.errors import CheckpointError

INDEX_SUFFIX = ".safetensors.index.json"


class TensorSource(Protocol):
    """Read access to named tensors without loading them all."""

    @property
    def name(self) -> str:
        """Where the tensors come from, for error messages."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor by its key on disk."""

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Rows `start` to `stop` of dimension 0 of one tensor, on the CPU, in the dtype on disk."""


class SafetensorsSource:
    """One safetensors file, or the shards that an index file lists."""

    def __init__(self, name: str, files: Mapping[str, Path]) -> None:
        self.name = name
        self._files = {key: safe_open(path, framework="pt") for key, path in _unique(files).items()}
        self._file_of = {key: str(path) for key, path in files.items()}
        self.shapes: Mapping[str, tuple[int, ...]] = MappingProxyType(
            {key: tuple(self._slice(key).get_shape()) for key in files}
        )

    def _slice(self, key: str) -> Any:
        return self._files[self._file_of[key]].get_slice(key)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Tensor:
        if not self.shapes[key]:
            scalar: Tensor = self._files[self._file_of[key]].get_tensor(key)
            return scalar
        rows: Tensor = self._slice(key)[start:stop]
        return rows


class PickleSource:
    """A `.pth` of plain tensors, opened with `weights_only=True` and memory-mapped."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._tensors = _load_pickle(path)
        self.shapes: Mapping[str, tuple[int, ...]] = MappingProxyType(
            {key: tuple(value.shape) for key, value in self._tensors.items()}
        )

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Tensor:
        tensor = self._tensors[key]
        return tensor[start:stop] if tensor.ndim else tensor


def open_safetensors(directory: Path, stem: str) -> SafetensorsSource:
    """Opens `stem.safetensors`, or the shards of `stem.safetensors.index.json`.

    Raises:
        CheckpointError: Neither exists, or a shard that the index names is missing.
    """
    single, index = directory / f"{stem}.safetensors", directory / f"{stem}{INDEX_SUFFIX}"
    if single.is_file():
        with safe_open(single, framework="pt") as file:
            return SafetensorsSource(str(single), dict.fromkeys(file.keys(), single))
    if not index.is_file():
        raise CheckpointError(f"{directory} holds neither {single.name} nor {index.name}")
    weight_map: dict[str, str] = json.loads(index.read_text())["weight_map"]
    missing = sorted({file for file in weight_map.values() if not (directory / file).is_file()})
    if missing:
        raise CheckpointError(f"{index} names shards that are missing: {', '.join(missing)}")
    return SafetensorsSource(str(index), {k: directory / f for k, f in weight_map.items()})


def _unique(files: Mapping[str, Path]) -> dict[str, Path]:
    return {str(path): path for path in files.values()}


def _load_pickle(path: Path) -> dict[str, Tensor]:
    try:
        mappable = zipfile.is_zipfile(path)  # files from before torch 1.6 are not
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mappable)
    except Exception as error:  # torch raises many kinds for a file it cannot read safely
        raise CheckpointError(
            f"{path} is not a file of plain tensors written by a recent torch.save: {error}"
        ) from error
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise CheckpointError(f"{path} must hold one dictionary of tensors")
    return loaded
