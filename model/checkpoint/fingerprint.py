"""One hash for a whole checkpoint, so that two services can tell whether they run the same."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model.checkpoint.manifest import LOADED, MANIFEST
from model.errors import CheckpointError

EDGE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A hash, and of what.

    Args:
        sha256: Hexadecimal.
        covers: "content": the SHA-256 of every file, as the manifest beside them lists it.
            "edges", without a manifest: every file's name, size, first and last mebibyte, where
            safetensors keep names and shapes and PyTorch's archives their checksums.
    """

    sha256: str
    covers: Literal["content", "edges"]


def fingerprint(folder: Path) -> Fingerprint:
    """Reads a manifest, or two mebibytes of each file; never the weights themselves.

    Raises:
        CheckpointError: The manifest cannot be read.
    """
    manifest = folder / MANIFEST
    digest = hashlib.sha256()
    lines = _listed(manifest) if manifest.is_file() else _edges(folder)
    for line in lines:
        digest.update(line.encode() + b"\n")
    return Fingerprint(digest.hexdigest(), "content" if manifest.is_file() else "edges")


def _listed(manifest: Path) -> list[str]:
    try:
        files = json.loads(manifest.read_text())["files"]
        return sorted(f"{file['path']} {file['sha256']}" for file in files)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{manifest} is not a manifest of this project: {error}") from error


def _edges(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in LOADED and path.is_file():
            size = path.stat().st_size
            with path.open("rb") as file:
                edges = hashlib.sha256(file.read(EDGE_BYTES))
                file.seek(max(0, size - EDGE_BYTES))
                edges.update(file.read(EDGE_BYTES))
            yield f"{path.relative_to(folder).as_posix()} {size} {edges.hexdigest()}"
