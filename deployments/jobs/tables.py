"""The tables as the code knows them; `deployments.jobs.migrations` makes them."""

import time
from typing import Any

from sqlalchemy import JSON, Double, Index
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from autoscaling.cost import latent_tokens
from autoscaling.work import ClipWork

QUEUED, IN_PROGRESS, COMPLETED, FAILED = "queued", "in_progress", "completed", "failed"


class Tables(DeclarativeBase):
    """What all tables belong to."""


class Job(Tables):
    """One video: what was asked for, how far it is, how it ended."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("uq_jobs_idempotency", "key_id", "idempotency_key", unique=True),
        Index("ix_jobs_order", "status", "order_tag", "number"),
        Index("ix_jobs_flow", "key_id", "priority", "fair_start"),
    )

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    status: Mapped[str] = mapped_column(default=QUEUED, index=True)
    model: Mapped[str]
    prompt: Mapped[str]
    created_at: Mapped[float] = mapped_column(Double, default=time.time)
    started_at: Mapped[float | None] = mapped_column(Double, default=None)
    completed_at: Mapped[float | None] = mapped_column(Double, default=None)
    width: Mapped[int]
    height: Mapped[int]
    num_frames: Mapped[int]
    # A seed may use all 64 bits without a sign, which SQL integers do not hold.
    seed: Mapped[str]
    num_inference_steps: Mapped[int]
    notes: Mapped[list[str]] = mapped_column(JSON, default=list)
    due_at_s: Mapped[float | None] = mapped_column(default=None)
    progress: Mapped[int] = mapped_column(default=0)
    stage: Mapped[str | None] = mapped_column(default=None)
    step: Mapped[int | None] = mapped_column(default=None)
    total_steps: Mapped[int | None] = mapped_column(default=None)
    stage_durations: Mapped[dict[str, float]] = mapped_column(JSON, default=dict)
    error_code: Mapped[str | None] = mapped_column(default=None)
    error_message: Mapped[str | None] = mapped_column(default=None)
    # Which gateway works on it, until when unless it renews, and for the how-manieth time.
    owner: Mapped[str | None] = mapped_column(default=None)
    lease_until: Mapped[float | None] = mapped_column(Double, default=None)
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    # A client, or the canary.
    origin: Mapped[str] = mapped_column(default="client", server_default="client")
    # The API key that sent it; empty where the server asks for none.
    key_id: Mapped[str] = mapped_column(default="", server_default="", index=True)
    idempotency_key: Mapped[str | None] = mapped_column(default=None)
    # Of everything that was asked for, to know a repeated request.
    request_hash: Mapped[str | None] = mapped_column(default=None, index=True)
    priority: Mapped[str] = mapped_column(default="normal", server_default="normal")
    predicted_s: Mapped[float | None] = mapped_column(Double, default=None)
    # Seconds that its steps took a gang; None where nobody could tell.
    gang_s: Mapped[float | None] = mapped_column(Double, default=None)
    # Its place, given when it is added: see `autoscaling.order`.
    fair_start: Mapped[float] = mapped_column(Double, default=0.0, server_default="0", index=True)
    order_tag: Mapped[float] = mapped_column(Double, default=0.0, server_default="0")
    # Waits until then: back-off after a failure.
    not_before: Mapped[float | None] = mapped_column(Double, default=None)
    # Attempts that failed, as far as they count.
    failures: Mapped[int] = mapped_column(default=0, server_default="0")
    # Gangs that died under it.
    strikes: Mapped[int] = mapped_column(default=0, server_default="0")
    # Since when its final latents are kept: from then on it is never denoised again.
    latents_at: Mapped[float | None] = mapped_column(Double, default=None)
    expires_at: Mapped[float | None] = mapped_column(Double, default=None, index=True)
    # What is stored, by variant: SHA-256, bytes, media type.
    artifacts: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict, server_default="{}")
    # What it takes to make the same video again.
    record: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict, server_default="{}")

    @property
    def size(self) -> dict[str, int]:
        """What the job asks for."""
        return {
            "width": self.width,
            "height": self.height,
            "num_frames": self.num_frames,
            "num_inference_steps": self.num_inference_steps,
        }

    @property
    def work(self) -> ClipWork:
        """What the clip will cost a gang, and when it is due."""
        tokens = latent_tokens(self.num_frames, self.height, self.width)
        return ClipWork(tokens, self.num_inference_steps, self.due_at_s)

    @property
    def is_over(self) -> bool:
        return self.status in (COMPLETED, FAILED)
