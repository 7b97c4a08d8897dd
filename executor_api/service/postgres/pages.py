"""The query for a page of executions: conditions put together, values always bound."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from executor_api.service.record_codec import decode_cursor
from executor_api.service.store import ListFilter

_E = sa.table(
    "executions",
    *(
        sa.column(name)
        for name in ("id", "tenant", "status", "reason", "template", "created_at", "record", "listed", "cancelled")
    ),
    sa.column("labels", JSONB),
)


def page_query(tenant: str, where: ListFilter, limit: int, cursor: str | None) -> sa.Select[Any]:
    """What lists show and cancelled, newest first. Raises `InvalidRequestError` for a cursor that is not ours."""
    before = [] if cursor is None else [_E.c.id < decode_cursor(cursor)]
    return (
        sa.select(sa.func.coalesce(_E.c.listed, _E.c.record), _E.c.cancelled)
        .where(_E.c.tenant == tenant, *_conditions(where), *before)
        .order_by(_E.c.id.desc())
        .limit(limit)
    )


def _conditions(where: ListFilter) -> list[sa.ColumnElement[bool]]:
    compared = (
        (where.reason, _E.c.reason.__eq__),
        (where.template, _E.c.template.__eq__),
        (where.created_after, _E.c.created_at.__gt__),
        (where.created_before, _E.c.created_at.__lt__),
    )
    conditions = [compare(value) for value, compare in compared if value is not None]
    if where.statuses:
        conditions.append(_E.c.status.in_(sorted(str(status) for status in where.statuses)))
    if where.labels:
        conditions += [_E.c.labels.contains(where.labels), _E.c.labels != sa.text("'{}'")]
    return conditions
