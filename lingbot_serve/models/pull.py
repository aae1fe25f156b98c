"""Pulls a checkpoint: lists it, finds room, transfers what is missing, checks every byte."""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from queue import Empty, SimpleQueue

from filelock import FileLock, Timeout

from lingbot_serve.errors import DiskSpaceError, IntegrityError
from lingbot_serve.models.download import PARTIAL_SUFFIX, download, new_client
from lingbot_serve.models.hub import Hub, RemoteFile, Snapshot
from lingbot_serve.models.manifest import (
    FileEntry,
    Manifest,
    bytes_on_disk,
    git_sha1_of,
    read_manifest,
)
from model.checkpoint.manifest import sha256_of

_LOCK = ".pull.lock"
# Left free, so that logs and the job database beside the weights can still be written.
_RESERVE_BYTES = 1 << 30
_WORKERS = 4
_LOOK_S = 0.2


class PullView:
    """Hears how a pull goes; this one is silent."""

    def waits(self) -> None:
        """Another pull works on the same folder."""

    def begins(self, snapshot: Snapshot, total_bytes: int) -> None:
        """The files are known."""

    def moves(self, done_bytes: int) -> None:
        """So much is on the disk, over all files."""


@dataclass(frozen=True, slots=True)
class PullSettings:
    """What to pull, and how.

    Args:
        repo: `owner/name`.
        revision: Branch, tag or commit; None means the hub's default branch.
        exclude: Patterns of paths to leave out.
        first_pause_s: Before a broken connection is tried again.
    """

    repo: str
    revision: str | None = None
    exclude: tuple[str, ...] = ()
    first_pause_s: float = 1.0


def pull(hub: Hub, settings: PullSettings, folder: Path, view: PullView | None = None) -> Manifest:
    """Brings a checkpoint into a folder and leaves a manifest beside it.

    Run again after an interruption, it goes on where it stopped. A folder that is complete is not
    read again; `verify` does that.

    Args:
        hub: Where from.
        settings: What.
        folder: Where to; made if it is missing.
        view: Hears how it goes.

    Raises:
        HubError: There is no such repository or revision, or the hub refuses it.
        HubUnreachableError: No answer; what has arrived is kept.
        DiskSpaceError: It does not fit; nothing was transferred.
        IntegrityError: A file arrived wrong twice; it was removed.
    """
    view = view or PullView()
    folder.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(folder, view):
        snapshot = hub.snapshot(settings.repo, settings.revision)
        files = [file for file in snapshot.files if not _matches(file, settings.exclude)]
        plan = _plan(snapshot, files)
        before = read_manifest(folder)
        if before is not None and _agree(plan, before) and not before.missing(folder):
            return before
        view.begins(snapshot, plan.num_bytes)
        _check_space(plan, folder)
        plan.write_plan(folder)
        transfer = _Transfer(hub, snapshot, folder, settings.first_pause_s)
        hashes = transfer.run(files, lambda: view.moves(bytes_on_disk(folder, plan.files)))
        manifest = _with_hashes(plan, hashes)
        manifest.write(folder)
        for partial in folder.rglob(f"*{PARTIAL_SUFFIX}"):
            partial.unlink()  # of another revision, whose pull was given up
        return manifest


def _matches(file: RemoteFile, patterns: Sequence[str]) -> bool:
    return any(fnmatch(file.path, pattern) for pattern in patterns)


def _plan(snapshot: Snapshot, files: Sequence[RemoteFile]) -> Manifest:
    return Manifest(
        source=snapshot.source,
        repo=snapshot.repo,
        revision=snapshot.revision,
        files=tuple(FileEntry(path=f.path, size=f.size, sha256=f.sha256) for f in files),
    )


def _agree(plan: Manifest, before: Manifest) -> bool:
    """Whether what was pulled before is what there is to pull."""
    known = {entry.path: entry for entry in before.files}
    return (before.revision, set(known)) == (plan.revision, {e.path for e in plan.files}) and all(
        (entry.size, entry.sha256 or known[entry.path].sha256)
        == (known[entry.path].size, known[entry.path].sha256)
        for entry in plan.files
    )


def _with_hashes(plan: Manifest, hashes: dict[str, str]) -> Manifest:
    files = [entry.model_copy(update={"sha256": hashes[entry.path]}) for entry in plan.files]
    return plan.model_copy(update={"files": tuple(files)})


def _check_space(manifest: Manifest, folder: Path) -> None:
    missing = manifest.num_bytes - bytes_on_disk(folder, manifest.files)
    free = shutil.disk_usage(folder).free
    if missing + _RESERVE_BYTES > free:
        raise DiskSpaceError(
            f"{manifest.repo} needs {missing / 1e9:.1f} GB more and {_RESERVE_BYTES / 1e9:.1f} GB "
            f"to spare, but {folder} has {free / 1e9:.1f} GB free; make room or choose another "
            "--models-dir"
        )


@contextmanager
def _one_at_a_time(folder: Path, view: PullView) -> Iterator[None]:
    """Pods that start together pull once: the others wait and find it done."""
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        view.waits()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class _Transfer:
    """A few threads that fetch and check files; they end with the process, as partial files may."""

    def __init__(self, hub: Hub, snapshot: Snapshot, folder: Path, first_pause_s: float) -> None:
        self._hub = hub
        self._snapshot = snapshot
        self._folder = folder
        self._first_pause_s = first_pause_s
        self._client = new_client()
        self._waiting: SimpleQueue[RemoteFile] = SimpleQueue()
        self._hashes: dict[str, str] = {}
        self._errors: list[Exception] = []

    def run(self, files: Sequence[RemoteFile], look: Callable[[], None]) -> dict[str, str]:
        """Returns the SHA-256 of each file by its path.

        Args:
            files: What to fetch, largest first whatever their order.
            look: Called now and then meanwhile.
        """
        for file in sorted(files, key=lambda file: file.size, reverse=True):
            self._waiting.put(file)
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(_WORKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(_LOOK_S)
                look()
        self._client.close()
        if self._errors:
            raise self._errors[0]
        return self._hashes

    def _work(self) -> None:
        while not self._errors:
            try:
                file = self._waiting.get_nowait()
            except Empty:
                return
            try:
                self._hashes[file.path] = self._fetch_checked(file)
            except Exception as error:  # the edge of the thread: `run` raises it
                self._errors.append(error)

    def _fetch_checked(self, file: RemoteFile) -> str:
        target = self._folder / file.path
        for _ in range(2):
            if not target.is_file() or target.stat().st_size != file.size:
                location = self._hub.location(self._snapshot, file)
                download(self._client, location, file, target, first_pause_s=self._first_pause_s)
            sha256 = sha256_of(target)
            problem = _problem(file, target, sha256)
            if problem is None:
                return sha256
            target.unlink()
        raise IntegrityError(
            f"{file.path} arrived wrong twice ({problem}) and was removed; run the same command "
            "again, and if that does not help, try the other --source"
        )


def _problem(file: RemoteFile, target: Path, sha256: str) -> str | None:
    if file.sha256 is not None:
        return None if sha256 == file.sha256 else f"SHA-256 {sha256} instead of {file.sha256}"
    if file.git_sha1 is not None:
        found = git_sha1_of(target)
        return None if found == file.git_sha1 else f"git id {found} instead of {file.git_sha1}"
    return None
