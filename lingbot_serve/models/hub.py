"""What a place that publishes weights has to offer."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Source(str, Enum):
    """Which hub."""

    HUGGING_FACE = "huggingface"
    MODELSCOPE = "modelscope"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file as a hub describes it.

    Args:
        path: Relative to the repository.
        size: Bytes.
        sha256: Of its content, where the hub knows it: of all weights.
        git_sha1: Git's id of its content, which the hub knows of small files.
    """

    path: str
    size: int
    sha256: str | None
    git_sha1: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository at one moment.

    Args:
        source: On which hub.
        repo: `owner/name`.
        revision: A commit where the hub tells it, else what was asked for.
        files: All of them.
    """

    source: Source
    repo: str
    revision: str
    files: tuple[RemoteFile, ...]


@dataclass(frozen=True, slots=True)
class Location:
    """Where to get a file, with the headers that prove who asks."""

    url: str
    headers: Mapping[str, str]


class Hub(Protocol):
    """Read access to repositories."""

    def snapshot(self, repo: str, revision: str | None) -> Snapshot:
        """Lists a repository.

        Args:
            repo: `owner/name`.
            revision: Branch, tag or commit; None means the hub's default branch.

        Raises:
            HubError: There is no such repository or revision, or it needs a token.
            HubUnreachableError: No answer.
        """

    def location(self, snapshot: Snapshot, file: RemoteFile) -> Location:
        """Where a file's content is."""
