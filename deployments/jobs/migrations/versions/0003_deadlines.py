"""When a job should be done."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the deadline; earlier jobs have none."""
    op.add_column("jobs", sa.Column("due_at_s", sa.Double))
