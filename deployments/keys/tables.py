"""The tables of keys, of their secrets and of what they have used."""

import time

from sqlalchemy import JSON, Double, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from deployments.jobs.tables import Tables


class ApiKey(Tables):
    """One client's key; it stays when it is revoked, as jobs name it."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(JSON)
    requests_per_minute: Mapped[int | None]
    max_unfinished_jobs: Mapped[int | None]
    gpu_seconds_per_day: Mapped[float | None] = mapped_column(Double)
    max_priority: Mapped[str]
    created_at: Mapped[float] = mapped_column(Double, default=time.time)
    expires_at: Mapped[float | None] = mapped_column(Double, default=None)
    revoked_at: Mapped[float | None] = mapped_column(Double, default=None)
    last_used_at: Mapped[float | None] = mapped_column(Double, default=None)

    def is_valid(self, now_s: float) -> bool:
        """Whether anybody may still use it."""
        return self.revoked_at is None and (self.expires_at is None or now_s < self.expires_at)


class ApiKeySecret(Tables):
    """A hash by which a key is known; while a key is rotated there are two of them."""

    __tablename__ = "api_key_secrets"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"), index=True)
    prefix: Mapped[str]
    created_at: Mapped[float] = mapped_column(Double, default=time.time)
    expires_at: Mapped[float | None] = mapped_column(Double, default=None)


class KeyUsage(Tables):
    """What the jobs that a key sent in one day will cost; only the last day of a key is kept."""

    __tablename__ = "api_key_usage"

    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    # Days since 1970 in UTC.
    day: Mapped[int]
    gpu_seconds: Mapped[float] = mapped_column(Double)
