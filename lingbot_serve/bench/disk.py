"""What a disk can do, and whether a file is in memory already."""

import errno
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from time import perf_counter

_CHUNK_BYTES = 32 << 20
_THREADS = 8
_PROBES_PER_FILE = 64


def total_bytes(files: Iterable[Path]) -> int:
    """Size of some files together."""
    return sum(file.stat().st_size for file in files)


def drop_from_cache(files: Iterable[Path]) -> None:
    """Asks the kernel to forget some files' pages, written ones once they are on the disk."""
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_share(files: Iterable[Path]) -> float | None:
    """Share of some files that is in memory, by samples.

    Returns:
        None where the file system does not tell.
    """
    answers = [_is_cached(file, offset) for file in files for offset in _probe_offsets(file)]
    known = [answer for answer in answers if answer is not None]
    return sum(known) / len(known) if known else None


def raw_read_rate(files: Iterable[Path], *, most_bytes: int) -> float:
    """Bytes per second of plain reading by several threads, each byte once and into nothing.

    Args:
        files: To read, in this order.
        most_bytes: Stop after so many; a disk does not get faster with time.
    """
    chunks = list(islice(_chunks(files), max(1, most_bytes // _CHUNK_BYTES)))
    begin_s = perf_counter()
    with ThreadPoolExecutor(_THREADS) as threads:
        num_bytes = sum(threads.map(_read_chunk, *zip(*chunks, strict=True)))
    return num_bytes / (perf_counter() - begin_s)


def _chunks(files: Iterable[Path]) -> Iterator[tuple[Path, int]]:
    for file in files:
        for offset in range(0, file.stat().st_size, _CHUNK_BYTES):
            yield file, offset


def _read_chunk(file: Path, offset: int) -> int:
    buffer = bytearray(_CHUNK_BYTES)
    with file.open("rb", buffering=0) as opened:
        return os.preadv(opened.fileno(), [buffer], offset)


def _probe_offsets(file: Path) -> range:
    size = file.stat().st_size
    return range(0, size, max(1, size // _PROBES_PER_FILE))


def _is_cached(file: Path, offset: int) -> bool | None:
    with file.open("rb", buffering=0) as opened:
        try:
            os.preadv(opened.fileno(), [bytearray(1)], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                return None
            raise
    return True
