"""The manifest beside a checkpoint: where it came from, and the SHA-256 of every file.

It is there if and only if every file arrived and was checked; until then a plan is in its place.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from lingbot_serve.models.download import PARTIAL_SUFFIX
from lingbot_serve.models.hub import Source
from model.checkpoint.manifest import MANIFEST
from model.errors import CheckpointError

PLAN = ".lingbot-plan.json"


class FileEntry(BaseModel):
    """One file.

    Args:
        path: Relative to the checkpoint.
        size: Bytes.
        sha256: Of its content; None only until it was pulled.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    size: int
    sha256: str | None


class Manifest(BaseModel):
    """What a checkpoint's folder should hold.

    Args:
        source: The hub.
        repo: Its repository there.
        revision: The commit, where the hub tells it.
        files: All of them.
    """

    model_config = ConfigDict(frozen=True)

    source: Source
    repo: str
    revision: str
    files: tuple[FileEntry, ...]

    @property
    def num_bytes(self) -> int:
        """Of all files together."""
        return sum(entry.size for entry in self.files)

    def write_plan(self, folder: Path) -> None:
        """Says what a pull will bring; a manifest of before no longer holds."""
        self._write(folder / PLAN)
        (folder / MANIFEST).unlink(missing_ok=True)

    def write(self, folder: Path) -> None:
        """Says that everything is there."""
        self._write(folder / MANIFEST)
        (folder / PLAN).unlink(missing_ok=True)

    def _write(self, path: Path) -> None:
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text(self.model_dump_json(indent=2) + "\n")
        os.replace(partial, path)

    def missing(self, folder: Path) -> list[FileEntry]:
        """Files that are not there, or not of the right size."""
        return [entry for entry in self.files if _size(folder / entry.path) != entry.size]


def read_manifest(folder: Path, name: str = MANIFEST) -> Manifest | None:
    """The manifest (or the plan) of a checkpoint, if it has one.

    Raises:
        CheckpointError: It cannot be read.
    """
    path = folder / name
    if not path.is_file():
        return None
    try:
        return Manifest.model_validate_json(path.read_text())
    except (ValidationError, OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not a manifest of this project: {error}") from error


def bytes_on_disk(folder: Path, entries: Iterable[FileEntry]) -> int:
    """What is there of some files, parts of unfinished ones included."""
    whole = sum(_size(folder / entry.path) or 0 for entry in entries)
    return whole + sum(_size(path) or 0 for path in folder.rglob(f"*{PARTIAL_SUFFIX}"))


def git_sha1_of(path: Path) -> str:
    """Git's id of a small file's content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
