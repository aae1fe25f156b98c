"""What a models folder holds, and whether it is what it should be."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from lingbot_serve.errors import IntegrityError
from lingbot_serve.models.manifest import (
    PLAN,
    Manifest,
    bytes_on_disk,
    read_manifest,
)
from model.checkpoint.layout import locate_checkpoint
from model.checkpoint.manifest import sha256_of
from model.errors import CheckpointError


class State(str, Enum):
    """How a checkpoint stands, as far as sizes tell."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    UNKNOWN = "no manifest"


@dataclass(frozen=True, slots=True)
class Entry:
    """One checkpoint of a models folder.

    Args:
        name: Of its folder.
        num_bytes: On the disk.
        expected_bytes: As its manifest says, if it has one.
        source: The hub, if known.
        repo: Its repository there, if known.
        revision: Its commit there, if known.
        state: Whether anything is missing.
    """

    name: str
    num_bytes: int
    expected_bytes: int | None
    source: str | None
    repo: str | None
    revision: str | None
    state: State


def entries(models_dir: Path) -> Iterator[Entry]:
    """The checkpoints of a models folder, by name.

    Raises:
        CheckpointError: A manifest cannot be read.
    """
    folders = sorted(models_dir.iterdir()) if models_dir.is_dir() else []
    for folder in folders:
        if folder.is_dir() and not folder.name.startswith("."):
            yield _entry(folder)


def check_content(folder: Path, manifest: Manifest) -> None:
    """Reads every file and holds it against the manifest.

    Raises:
        IntegrityError: Files are missing or differ; the message names each, and the remedy.
    """
    faults = list(_faults(folder, manifest))
    if faults:
        listing = "\n".join(f"  - {fault}" for fault in faults)
        raise IntegrityError(
            f"{folder} differs from its manifest:\n{listing}\n"
            "remove the files that differ and pull again: only they are transferred"
        )


def check_model(folder: Path) -> None:
    """Holds keys and shapes against the models that would load them.

    Raises:
        CheckpointError: Files are missing, or keys or shapes do not fit.
    """
    # Here, since it brings torch along: the other commands answer without.
    from model.verify import verify_weights

    verify_weights(locate_checkpoint(folder))


def require_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint.

    Raises:
        CheckpointError: There is no such checkpoint, or it has none.
    """
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint at {folder}; pull it first")
    manifest = read_manifest(folder)
    if manifest is None:
        raise CheckpointError(
            f"{folder} has no manifest to hold its content against; pull it, or copy the manifest "
            "along with the files"
        )
    return manifest


def _faults(folder: Path, manifest: Manifest) -> Iterator[str]:
    missing = {entry.path for entry in manifest.missing(folder)}
    for entry in manifest.files:
        if entry.path in missing:
            yield f"{entry.path}: missing, or not of {entry.size} bytes"
        elif (found := sha256_of(folder / entry.path)) != entry.sha256:
            yield f"{entry.path}: SHA-256 {found} instead of {entry.sha256}"


def _entry(folder: Path) -> Entry:
    manifest = read_manifest(folder)
    told = manifest or read_manifest(folder, PLAN)
    if told is None:
        num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return Entry(folder.name, num_bytes, None, None, None, None, State.UNKNOWN)
    whole = manifest is not None and not manifest.missing(folder)
    return Entry(
        name=folder.name,
        num_bytes=bytes_on_disk(folder, told.files),
        expected_bytes=told.num_bytes,
        source=told.source.value,
        repo=told.repo,
        revision=told.revision,
        state=State.COMPLETE if whole else State.INCOMPLETE,
    )
