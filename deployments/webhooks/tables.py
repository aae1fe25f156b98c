"""The tables of webhook endpoints and of what is sent to them."""

import time

from sqlalchemy import JSON, Double, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from deployments.jobs.tables import Tables

VIDEO_COMPLETED, VIDEO_FAILED = "video.completed", "video.failed"
EVENT_TYPES = (VIDEO_COMPLETED, VIDEO_FAILED)
PENDING, DELIVERED, GIVEN_UP = "pending", "delivered", "failed"


class WebhookEndpoint(Tables):
    """An address that hears of the ends of a key's jobs."""

    __tablename__ = "webhook_endpoints"

    id: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    url: Mapped[str]
    event_types: Mapped[list[str]] = mapped_column(JSON)
    # As it is: whoever signs needs the secret itself.
    secret: Mapped[str]
    # Signs too, until then.
    old_secret: Mapped[str | None] = mapped_column(default=None)
    old_secret_until: Mapped[float | None] = mapped_column(Double, default=None)
    created_at: Mapped[float] = mapped_column(Double, default=time.time)
    updated_at: Mapped[float] = mapped_column(Double, default=time.time)
    # Since it answered 410: nothing more is sent to it.
    disabled_at: Mapped[float | None] = mapped_column(Double, default=None)

    def secrets(self, now_s: float) -> list[str]:
        """Those that sign, the newest first."""
        if self.old_secret is None or now_s >= (self.old_secret_until or 0):
            return [self.secret]
        return [self.secret, self.old_secret]


class WebhookDelivery(Tables):
    """One event for one endpoint: outbox, queue and log in one."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (Index("ix_webhook_deliveries_due", "status", "next_at"),)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    # The same at every attempt: by it a receiver knows what it has seen.
    id: Mapped[str] = mapped_column(unique=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id"), index=True)
    event_type: Mapped[str]
    video_id: Mapped[str]
    error_code: Mapped[str | None] = mapped_column(default=None)
    created_at: Mapped[float] = mapped_column(Double, default=time.time)
    status: Mapped[str] = mapped_column(default=PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    # Of the next attempt; while one is under way, when it counts as lost.
    next_at: Mapped[float] = mapped_column(Double, default=time.time)
    # No attempt after that; set with the first one.
    give_up_at: Mapped[float | None] = mapped_column(Double, default=None)
    ended_at: Mapped[float | None] = mapped_column(Double, default=None)
    last_status: Mapped[int | None] = mapped_column(default=None)
    last_error: Mapped[str | None] = mapped_column(default=None)
