"""Removes what nobody needs any more: expired results, what no job's row names, and old rows.

Several gateways may collect at once: they find the same, and what is gone already does not matter.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import islice

from sqlalchemy import Engine, String, cast, select, update
from sqlalchemy import delete as delete_rows
from sqlalchemy.orm import sessionmaker

from deployments.artifacts.objects import Objects, StoredObject
from deployments.jobs.tables import COMPLETED, FAILED, Job

# Longer than any upload, any clip and any disagreement of two machines' clocks.
GRACE_S = 86_400.0

_BATCH = 500


class Reason(str, Enum):
    """Why a file is not needed."""

    EXPIRED = "expired"
    """Its video was kept as long as `expire_after_s` said."""
    ORPHAN = "orphan"
    """No job has its name."""
    LEFTOVER = "leftover"
    """Its job is over and does not name it: inputs, or an attempt that came too late."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """A file that nobody needs.

    Args:
        file: Which.
        reason: Why.
    """

    file: StoredObject
    reason: Reason


@dataclass(slots=True)
class Tally:
    """Files of one kind.

    Args:
        num_files: How many.
        num_bytes: Their sizes together.
    """

    num_files: int = 0
    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Row:
    """What a job's row says of files."""

    is_over: bool
    has_expired: bool
    names: frozenset[str]
    is_older_than_names: bool


class Collector:
    """Goes through all files; every call blocks, and holds some hundred names at a time.

    Args:
        engine: From `deployments.jobs.database.open_database`.
        objects: All files of all jobs of that database, and of no other.
        forget_after_s: How long the row of a job that is over and has no files is kept; None: for
            ever.
    """

    def __init__(
        self, engine: Engine, objects: Objects, *, forget_after_s: float | None = None
    ) -> None:
        self._session = sessionmaker(engine, expire_on_commit=False)
        self._objects = objects
        self._forget_after_s = forget_after_s

    def collect(self, *, delete: bool) -> dict[Reason, Tally]:
        """Looks for garbage once.

        Args:
            delete: Whether to remove it, and old rows, or only to count.

        Returns:
            What was found, by reason.

        Raises:
            ArtifactStoreError: The store does not answer.
            SQLAlchemyError: The database does not.
        """
        tallies = {reason: Tally() for reason in Reason}
        for garbage in self.find(time.time()):
            tally = tallies[garbage.reason]
            tally.num_files += 1
            tally.num_bytes += garbage.file.num_bytes
            if delete:
                self._objects.delete([garbage.file.name])
        if delete:
            self._forget_files()
            self._forget_jobs(time.time())
        return tallies

    def find(self, now_s: float) -> Iterator[Garbage]:
        """Files that nobody needs at a moment, in no order."""
        files = self._objects.list()
        while batch := list(islice(files, _BATCH)):
            rows = self._rows({_job_id(file) for file in batch}, now_s)
            for file in batch:
                reason = _reason(file, rows.get(_job_id(file)), now_s)
                if reason is not None:
                    yield Garbage(file, reason)

    def _rows(self, job_ids: set[str], now_s: float) -> dict[str, _Row]:
        columns = (Job.id, Job.status, Job.expires_at, Job.artifacts)
        with self._session() as session:
            found = session.execute(select(*columns).where(Job.id.in_(job_ids))).all()
        return {
            job_id: _Row(
                is_over=status in (COMPLETED, FAILED),
                has_expired=expires_at is not None and expires_at <= now_s,
                names=frozenset(entry["name"] for entry in artifacts.values()),
                is_older_than_names=status == COMPLETED and not artifacts and expires_at is None,
            )
            for job_id, status, expires_at, artifacts in found
        }

    def _forget_files(self) -> None:
        """Rows of removed files say so; asked for, they answer 410 as before."""
        expired = (Job.expires_at <= time.time(), cast(Job.artifacts, String) != "{}")
        some = select(Job.id).where(*expired).limit(_BATCH)
        while True:
            with self._session.begin() as session:
                ids = session.scalars(some).all()
                if not ids:
                    return
                session.execute(update(Job).where(Job.id.in_(ids)).values(artifacts={}))

    def _forget_jobs(self, now_s: float) -> None:
        if self._forget_after_s is None:
            return
        old = (
            Job.status.in_((COMPLETED, FAILED)),
            Job.completed_at < now_s - self._forget_after_s,
            cast(Job.artifacts, String) == "{}",
        )
        some = select(Job.id).where(*old).limit(_BATCH)
        while True:
            with self._session.begin() as session:
                ids = session.scalars(some).all()
                if not ids:
                    return
                session.execute(delete_rows(Job).where(Job.id.in_(ids)))


def _job_id(file: StoredObject) -> str:
    return file.name.partition("/")[0]


def _reason(file: StoredObject, row: _Row | None, now_s: float) -> Reason | None:
    if row is not None and row.has_expired:
        return Reason.EXPIRED
    if now_s - file.modified_s < GRACE_S:
        return None
    if row is None:
        return Reason.ORPHAN
    if row.is_over and not row.is_older_than_names and file.name not in row.names:
        return Reason.LEFTOVER
    return None
