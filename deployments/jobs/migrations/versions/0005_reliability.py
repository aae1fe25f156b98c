"""Whose a job is, what it will cost, what is kept of it, and when it may be tried again."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs from before belong to nobody in particular, and run in the order in which they came."""
    for column in (
        sa.Column("key_id", sa.String, nullable=False, server_default=""),
        sa.Column("idempotency_key", sa.String, nullable=True),
        sa.Column("request_hash", sa.String, nullable=True),
        sa.Column("priority", sa.String, nullable=False, server_default="normal"),
        sa.Column("predicted_s", sa.Double, nullable=True),
        sa.Column("not_before", sa.Double, nullable=True),
        sa.Column("strikes", sa.Integer, nullable=False, server_default="0"),
        sa.Column("latents_at", sa.Double, nullable=True),
        sa.Column("expires_at", sa.Double, nullable=True),
        sa.Column("artifacts", sa.JSON, nullable=False, server_default="{}"),
        sa.Column("record", sa.JSON, nullable=False, server_default="{}"),
    ):
        op.add_column("jobs", column)
    op.create_index("ix_jobs_key_id", "jobs", ["key_id"])
    op.create_index("ix_jobs_request_hash", "jobs", ["request_hash"])
    op.create_index("ix_jobs_expires_at", "jobs", ["expires_at"])
    # Neither database holds two NULLs for equal: jobs without such a key never collide.
    op.create_index("uq_jobs_idempotency", "jobs", ["key_id", "idempotency_key"], unique=True)
