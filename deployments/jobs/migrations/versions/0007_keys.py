"""API keys, their secrets, and what they have used."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No key is there at first."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("requests_per_minute", sa.Integer),
        sa.Column("max_unfinished_jobs", sa.Integer),
        sa.Column("gpu_seconds_per_day", sa.Double),
        sa.Column("max_priority", sa.String, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("revoked_at", sa.Double),
        sa.Column("last_used_at", sa.Double),
    )
    op.create_table(
        "api_key_secrets",
        sa.Column("sha256", sa.String, primary_key=True),
        sa.Column("key_id", sa.String, sa.ForeignKey("api_keys.id"), nullable=False),
        sa.Column("prefix", sa.String, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
    )
    op.create_index("ix_api_key_secrets_key_id", "api_key_secrets", ["key_id"])
    op.create_table(
        "api_key_usage",
        sa.Column("key_id", sa.String, sa.ForeignKey("api_keys.id"), primary_key=True),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("gpu_seconds", sa.Double, nullable=False),
    )
