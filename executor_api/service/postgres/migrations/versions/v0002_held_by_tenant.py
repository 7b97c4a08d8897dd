"""Find out how much each tenant holds without a look at the records."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

_INDEX = "CREATE INDEX executions_held ON executions (tenant, finished_at, size) WHERE finished_at IS NOT NULL"


def upgrade() -> None:
    """Make the index."""
    op.execute(_INDEX)
