"""Which gateway works on a job, until when, and for the how-manieth time."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the lease; a job that was in progress has none, so the next gateway takes it up."""
    op.add_column("jobs", sa.Column("owner", sa.String))
    op.add_column("jobs", sa.Column("lease_until", sa.Double))
    op.add_column("jobs", sa.Column("attempts", sa.Integer, nullable=False, server_default="0"))
