"""In which order jobs are taken, and what they took."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs from before go first, in the order in which they came."""
    op.add_column("jobs", sa.Column("fair_start", sa.Double, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("order_tag", sa.Double, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("gang_s", sa.Double, nullable=True))
    op.create_index("ix_jobs_fair_start", "jobs", ["fair_start"])
    op.create_index("ix_jobs_order", "jobs", ["status", "order_tag", "number"])
    op.create_index("ix_jobs_flow", "jobs", ["key_id", "priority", "fair_start"])
