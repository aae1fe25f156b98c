"""Named tensors on disk, read slice by slice so that nobody holds a whole file in memory."""

import json
import math
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import safe_open
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from model.checkpoint.shards import Shapes, find_shards
from model.errors import CheckpointError

# As safetensors names them; a checkpoint of weights holds no others.
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
}


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Where consecutive rows of one tensor begin in a file, in a row and little-endian."""

    path: Path
    offset: int
    dtype: torch.dtype


class TensorSource(Protocol):
    """Read access to named tensors without loading them all."""

    @property
    def name(self) -> str:
        """Where the tensors come from, for error messages."""

    @property
    def shapes(self) -> Shapes:
        """Shape of every tensor by its key on disk."""

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Rows `start` to `stop` of dimension 0 of one tensor, on the CPU, in the dtype on disk."""


@runtime_checkable
class FileTensors(Protocol):
    """Sources whose tensors are plain bytes of files."""

    def locate(self, key: str, start: int = 0) -> ByteRange | None:
        """Where rows `start` and on of a tensor lie; None for one that is not plain bytes."""


class SafetensorsSource:
    """One safetensors file, or the shards that an index file lists."""

    def __init__(self, name: str, files: Mapping[str, Path]) -> None:
        self.name = name
        self._files = {key: safe_open(path, framework="pt") for key, path in _unique(files).items()}
        self._file_of = {key: str(path) for key, path in files.items()}
        self.shapes: Shapes = MappingProxyType(
            {key: tuple(self._slice(key).get_shape()) for key in files}
        )
        self._ranges = {
            key: part for path in _unique(files).values() for key, part in _read_header(path)
        }

    def _slice(self, key: str) -> Any:
        return self._files[self._file_of[key]].get_slice(key)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Tensor:
        if not self.shapes[key]:
            scalar: Tensor = self._files[self._file_of[key]].get_tensor(key)
            return scalar
        rows: Tensor = self._slice(key)[start:stop]
        return rows

    def locate(self, key: str, start: int = 0) -> ByteRange | None:
        part = self._ranges.get(key)
        if part is None:
            return None
        row_bytes = math.prod(self.shapes[key][1:]) * part.dtype.itemsize
        return replace(part, offset=part.offset + start * row_bytes)


class PickleSource:
    """A `.pth` of plain tensors, opened with `weights_only=True` and memory-mapped."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._tensors = _load_pickle(path)
        self._offsets = _storage_offsets(path)
        self.shapes: Shapes = MappingProxyType(
            {key: tuple(value.shape) for key, value in self._tensors.items()}
        )

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Tensor:
        tensor = self._tensors[key]
        return tensor[start:stop] if tensor.ndim else tensor

    def locate(self, key: str, start: int = 0) -> ByteRange | None:
        tensor = self._tensors[key]
        offset = self._offsets.get(key)
        if offset is None or not tensor.is_contiguous():
            return None
        elements = int(tensor.storage_offset()) + start * math.prod(tensor.shape[1:])
        return ByteRange(self._path, offset + elements * tensor.dtype.itemsize, tensor.dtype)


def open_safetensors(directory: Path, stem: str) -> SafetensorsSource:
    """Opens `stem.safetensors`, or the shards of `stem.safetensors.index.json`.

    Raises:
        CheckpointError: Neither exists, or a shard that the index names is missing.
    """
    shards = find_shards(directory, stem)
    return SafetensorsSource(shards.name, shards.file_of)


def _unique(files: Mapping[str, Path]) -> dict[str, Path]:
    return {str(path): path for path in files.values()}


def _read_header(path: Path) -> Iterator[tuple[str, ByteRange]]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    for key, entry in header.items():
        if entry.get("dtype") in _DTYPES:
            begin = 8 + length + entry["data_offsets"][0]
            yield key, ByteRange(path, begin, _DTYPES[entry["dtype"]])


def _storage_offsets(path: Path) -> dict[str, int]:
    """Where each tensor's storage begins in a zip that torch.save wrote, storing uncompressed."""
    if not zipfile.is_zipfile(path):
        return {}
    with FakeTensorMode():
        loaded: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    offsets = {key: value.untyped_storage()._checkpoint_offset for key, value in loaded.items()}
    return {key: offset for key, offset in offsets.items() if offset is not None}


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
