"""Give records what lists show of a request, so that lists need not read requests."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

_COPY = r"""
UPDATE executions SET record = convert_to(replace(
    replace(convert_from(record, 'UTF8'), '"request": null', '"request"\:null'),
    '"request"\:null',
    '"request":' || json_build_object(
        'template', asked -> 'template', 'isolation', asked -> 'isolation', 'labels', asked -> 'labels'
    )
), 'UTF8')
FROM (SELECT execution_id, CAST(convert_from(request, 'UTF8') AS json) AS asked FROM requests) AS asking
WHERE execution_id = id
"""
# In a record's texts each quote is escaped: only the field itself reads like that.


def upgrade() -> None:
    """Copy it."""
    op.execute(_COPY)
