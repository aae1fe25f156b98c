"""Who sent a job: a client, or the canary."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs from before were clients'."""
    op.add_column("jobs", sa.Column("origin", sa.String, nullable=False, server_default="client"))
