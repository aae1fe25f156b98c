"""How often work on a job has failed: what its retries are counted by."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs from before have not failed."""
    op.add_column("jobs", sa.Column("failures", sa.Integer, nullable=False, server_default="0"))
