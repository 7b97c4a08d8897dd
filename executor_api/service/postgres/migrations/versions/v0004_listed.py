"""A place for a large record without what lists don't show, so that lists need not read that."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the column. Records from before are read whole."""
    op.execute("ALTER TABLE executions ADD COLUMN listed bytea")
