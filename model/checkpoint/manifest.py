"""Holds a checkpoint's files against the manifest beside them, before any of them is loaded."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from model.errors import CheckpointError

MANIFEST = "lingbot-manifest.json"
_CHUNK_BYTES = 1 << 23
_REMEDY = "`lingbot-serve models verify` tells more, `models pull` replaces what differs"
# What a loader might read; notes and licences beside the weights are nobody's business.
LOADED = {".bin", ".json", ".model", ".pt", ".pth", ".safetensors", ".txt"}


class ManifestCheck(str, Enum):
    """How much of a checkpoint is held against its manifest.

    `SIZES` looks at the files' lengths, where there is a manifest. `CONTENT` wants a manifest, the
    SHA-256 of every file, and no file that it does not list.
    """

    OFF = "off"
    SIZES = "sizes"
    CONTENT = "content"


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str
    size: int
    sha256: str


def check_manifest(folder: Path, check: ManifestCheck) -> None:
    """Holds the files of a checkpoint against its manifest.

    Args:
        folder: The checkpoint.
        check: How much; `CONTENT` reads all of it once.

    Raises:
        CheckpointError: Files are missing, differ or are not listed, or there is no manifest where
            one is wanted; the message names each.
    """
    if check is ManifestCheck.OFF:
        return
    if not (folder / MANIFEST).is_file():
        if check is ManifestCheck.CONTENT:
            raise CheckpointError(f"checkpoint {folder} has no {MANIFEST}, which is asked for")
        return
    entries = _read(folder / MANIFEST)
    faults = list(_sizes(folder, entries))
    if check is ManifestCheck.CONTENT and not faults:
        faults = [*_unlisted(folder, entries), *_contents(folder, entries)]
    if faults:
        listing = "\n".join(f"  - {fault}" for fault in faults)
        raise CheckpointError(
            f"checkpoint {folder} differs from its manifest:\n{listing}\n{_REMEDY}"
        )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _read(path: Path) -> list[_Entry]:
    try:
        files = json.loads(path.read_text())["files"]
        return [_Entry(str(f["path"]), int(f["size"]), str(f["sha256"])) for f in files]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a manifest of this project: {error}") from error


def _sizes(folder: Path, entries: list[_Entry]) -> Iterator[str]:
    for entry in entries:
        path = folder / entry.path
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            yield f"{entry.path} is missing"
        elif size != entry.size:
            yield f"{entry.path} has {size} bytes, not {entry.size}"


def _unlisted(folder: Path, entries: list[_Entry]) -> Iterator[str]:
    listed = {entry.path for entry in entries} | {MANIFEST}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix in LOADED and name not in listed and path.is_file():
            yield f"{name} is not listed"


def _contents(folder: Path, entries: list[_Entry]) -> Iterator[str]:
    with ThreadPoolExecutor() as threads:  # hashing lets go of the interpreter
        digests = threads.map(sha256_of, [folder / entry.path for entry in entries])
        for entry, digest in zip(entries, digests, strict=True):
            if digest != entry.sha256:
                yield f"{entry.path} has another content"
