"""Objects by name, in a folder or in an object store: the one place that knows which."""

import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

from cluster.logs import get_logger
from deployments.artifacts.config import LOCAL_SCHEME
from deployments.errors import ArtifactMissingError, ArtifactStoreError

logger = get_logger(__name__)

# An object store that is away must fail a request while somebody still waits for the answer.
_RETRY_TIMEOUT = timedelta(seconds=30)
_MAX_RETRIES = 5
_LIST_PAGE = 1000
_QUERY = re.compile(r"\?\S*")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a store knows of an object.

    Args:
        name: Below the store's root.
        num_bytes: Its size.
        modified_s: Unix time at which it was written.
    """

    name: str
    num_bytes: int
    modified_s: float


class Objects:
    """A flat space of objects; every call is atomic, and all but `get_range` block for a thread.

    Args:
        url: `file:///folder`, `s3://bucket/prefix`, `gs://…` or `az://…`.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._root: Path | None = None
        self._store: ObjectStore
        if parts.scheme == LOCAL_SCHEME:
            self._root = Path(unquote(parts.path))
            # Prompts and pictures of others lie here.
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._store = LocalStore(self._root, automatic_cleanup=True)
        else:
            # The library reads credentials from the environment and from instance roles itself.
            self._store = from_url(
                url,
                retry_config={"max_retries": _MAX_RETRIES, "retry_timeout": _RETRY_TIMEOUT},
            )

    def put(
        self,
        name: str,
        data: bytes,
        *,
        media_type: str = "application/octet-stream",
        filename: str | None = None,
    ) -> None:
        """Writes an object, whole or not at all, so that it survives a crash of the machine.

        Args:
            name: Below the store's root; an object of this name is replaced.
            data: All of it.
            media_type: What an object store tells those who follow a signed URL.
            filename: Under which they should save it.

        Raises:
            ArtifactStoreError: The store does not take it.
        """
        with _named_errors(name, missing=ArtifactStoreError):  # the bucket, where something is
            if self._root is not None:
                obstore.put(self._store, name, data, use_multipart=False)
                _flush(self._root / name, self._root)
                return
            attributes = {"Content-Type": media_type, "Cache-Control": "private, immutable"}
            if filename is not None:
                attributes["Content-Disposition"] = f'attachment; filename="{filename}"'
            obstore.put(self._store, name, data, attributes=attributes)

    def get(self, name: str) -> bytes:
        """A whole object.

        Raises:
            ArtifactMissingError: There is none of this name.
            ArtifactStoreError: The store does not answer.
        """
        with _named_errors(name):
            return obstore.get(self._store, name).bytes().to_bytes()

    async def get_range(self, name: str, start: int, end: int) -> bytes:
        """Some consecutive bytes of an object; hundreds may be awaited at once.

        Args:
            name: Which.
            start: Of the first byte, from 0.
            end: Behind the last byte.

        Raises:
            ArtifactMissingError: There is none of this name.
            ArtifactStoreError: The store does not answer.
        """
        with _named_errors(name):
            found = await obstore.get_range_async(self._store, name, start=start, end=end)
        return found.to_bytes()

    def list(self, folder: str | None = None) -> Iterator[StoredObject]:
        """Objects below a folder, or all; read page by page.

        Raises:
            ArtifactStoreError: The store does not answer.
        """
        with _named_errors(folder or ""):
            for page in obstore.list(self._store, folder, chunk_size=_LIST_PAGE):
                for meta in page:
                    modified_s = meta["last_modified"].timestamp()
                    yield StoredObject(meta["path"], meta["size"], modified_s)

    def delete(self, names: Collection[str]) -> None:
        """Removes objects; those that are gone already do not matter.

        Raises:
            ArtifactStoreError: The store does not answer.
        """
        for name in names:
            try:
                with _named_errors(name):
                    obstore.delete(self._store, name)
            except ArtifactMissingError:
                continue

    def delete_folder(self, folder: str) -> None:
        """Removes everything below a folder.

        Raises:
            ArtifactStoreError: The store does not answer.
        """
        self.delete([found.name for found in self.list(folder)])

    def signed_url(self, name: str, expires_in_s: float) -> str:
        """A URL at which anybody may read an object for a while; object stores only.

        Raises:
            ArtifactStoreError: The credentials cannot sign.
        """
        assert isinstance(self._store, S3Store | GCSStore | AzureStore), "a folder signs nothing"
        with _named_errors(name):
            return obstore.sign(self._store, "GET", name, timedelta(seconds=expires_in_s))


@contextmanager
def _named_errors(
    name: str, *, missing: type[ArtifactStoreError] = ArtifactMissingError
) -> Iterator[None]:
    """The library's errors in the project's terms; what the store said is for the log alone."""
    try:
        yield
    except FileNotFoundError as error:
        if missing is not ArtifactMissingError:
            logger.warning("artifact_store_failed", error=_reason(error))
        raise missing(f"the store has no {name}") from error
    except (BaseError, OSError) as error:
        logger.warning("artifact_store_failed", error=_reason(error))
        raise ArtifactStoreError(f"the store failed on {name}: {type(error).__name__}") from error


def _reason(error: Exception) -> str:
    """What failed, without the store's whole answer and without queries, which may be signed."""
    line = str(error).partition("\n")[0].partition(": <")[0]
    return _QUERY.sub("?…", line)


def _flush(path: Path, root: Path) -> None:
    """The library renames a finished file into its place; this makes the disk know of it."""
    folders = [folder for folder in path.parents if folder.is_relative_to(root)]
    for each in (path, *folders):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
