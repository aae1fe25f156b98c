"""Byte ranges of files into tensors: several threads read into a few buffers.

Host memory is the buffers, whatever the size of the files. On a GPU they are pinned, and one is
filled while another is copied from, so that disk and PCIe work at once; a dtype that differs is
converted where the tensor lies.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import torch
from torch import Tensor

from model.checkpoint.tensors import ByteRange
from model.errors import CheckpointError

NUM_READERS = 8
BUFFER_BYTES = 16 << 20
_BUFFERS_PER_READER = 2

Part = tuple[ByteRange, Tensor]


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one buffer takes: consecutive elements in a file and those that they become."""

    path: Path
    offset: int
    dtype: torch.dtype
    target: Tensor

    @property
    def num_bytes(self) -> int:
        return self.target.numel() * self.dtype.itemsize


class _Buffer:
    """Carries pieces to tensors of the host, one at a time."""

    def __init__(self, num_bytes: int, *, pinned: bool = False) -> None:
        self._host = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=pinned)
        self._bytes = memoryview(self._host.numpy())  # type: ignore[arg-type]

    def carry(self, piece: _Piece, file: int) -> int:
        """Reads a piece and copies it to where it belongs; returns its bytes on disk."""
        piece.target.copy_(self._read(piece, file))
        return piece.num_bytes

    def _read(self, piece: _Piece, file: int) -> Tensor:
        done, wanted = 0, piece.num_bytes
        while done < wanted:
            count = os.preadv(file, [self._bytes[done:wanted]], piece.offset + done)
            if count == 0:
                raise CheckpointError(f"{piece.path} ends before byte {piece.offset + wanted}")
            done += count
        return self._host[:wanted].view(piece.dtype)


class _PinnedBuffer(_Buffer):
    """Carries pieces to tensors of a GPU, on a stream of its own and without waiting for it."""

    def __init__(self, num_bytes: int, device: torch.device) -> None:
        super().__init__(num_bytes, pinned=True)
        self._stream = torch.cuda.Stream(device)

    def carry(self, piece: _Piece, file: int) -> int:
        self._stream.synchronize()  # the piece before has left the buffer
        read = self._read(piece, file)
        with torch.cuda.stream(self._stream):
            piece.target.copy_(read, non_blocking=True)
        return piece.num_bytes


def copy_from_files(
    parts: Sequence[Part], *, num_readers: int = NUM_READERS, buffer_bytes: int = BUFFER_BYTES
) -> Iterator[int]:
    """Fills tensors of one device from files.

    Args:
        parts: What to read and the contiguous tensor of as many elements that takes it.
        num_readers: Threads that read.
        buffer_bytes: Of each buffer; there are two to a reader.

    Yields:
        Bytes of each piece that has been read; after the last one all tensors are filled.

    Raises:
        CheckpointError: A file is shorter than it says.
    """
    if not parts:
        return
    device = parts[0][1].device
    _settle(device)  # whatever used the tensors' memory before has ended
    free: SimpleQueue[_Buffer] = SimpleQueue()
    for _ in range(num_readers * _BUFFERS_PER_READER):
        is_cuda = device.type == "cuda"
        free.put(_PinnedBuffer(buffer_bytes, device) if is_cuda else _Buffer(buffer_bytes))

    with ExitStack() as closing:
        files = {path: _open(path, closing) for path in {part.path for part, _ in parts}}
        readers = closing.enter_context(ThreadPoolExecutor(num_readers, "checkpoint-reader"))

        def carry(piece: _Piece) -> int:
            buffer = free.get()
            try:
                return buffer.carry(piece, files[piece.path])
            finally:
                free.put(buffer)

        yield from readers.map(carry, _pieces(parts, buffer_bytes))
        _settle(device)


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _pieces(parts: Iterable[Part], buffer_bytes: int) -> Iterator[_Piece]:
    for part, target in parts:
        step = buffer_bytes // part.dtype.itemsize
        for index, elements in enumerate(target.detach().view(-1).split(step)):
            offset = part.offset + index * step * part.dtype.itemsize
            yield _Piece(part.path, offset, part.dtype, elements)


def _open(path: Path, closing: ExitStack) -> int:
    file = os.open(path, os.O_RDONLY)
    closing.callback(os.close, file)
    return file
