"""What is done to the rows: functions of a connection, each inside a transaction that the caller holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from executor_api.domain.execution import Event, EventKind, Execution
from executor_api.errors import NotFoundError
from executor_api.service.pruning import TOGETHER
from executor_api.service.record_codec import (
    check_same_request,
    decode_cursor,
    decode_listed,
    decode_record,
    encode_cursor,
    encode_listed,
    encode_record,
)
from executor_api.service.store import Created, ListFilter, Page

_SELECT = "SELECT record, request FROM executions JOIN requests ON execution_id = id"
_LISTED = "SELECT coalesce(listed, record) FROM executions"


def create(connection: sqlite3.Connection, execution: Execution, events: Sequence[Event] = ()) -> Created:
    """Insert a new execution, or find the one its idempotency key has made. Raises `IdempotencyConflictError`."""
    if execution.idempotency is not None:
        earlier = find_earlier(connection, execution)
        if earlier is not None:
            return Created(earlier, existed=True)
    _insert(connection, execution, events)
    return Created(execution, existed=False)


def find_earlier(connection: sqlite3.Connection, execution: Execution) -> Execution | None:
    """Find the one its idempotency key has made. Raises `IdempotencyConflictError`."""
    idempotency = execution.idempotency
    if idempotency is None:
        return None
    sql = f"{_SELECT} WHERE tenant = ? AND key = ?"
    row = connection.execute(sql, (execution.tenant, idempotency.key)).fetchone()
    if row is None:
        return None
    earlier = decode_record(*row)
    check_same_request(earlier, idempotency)
    return earlier


def _insert(connection: sqlite3.Connection, execution: Execution, events: Sequence[Event]) -> None:
    record = encode_record(execution)
    request = execution.request.model_dump_json().encode()
    row = {
        "id": execution.id,
        "tenant": execution.tenant,
        "template": execution.request.template,
        "created_at": execution.created_at,
        "size": len(record) + len(request) + _size(events),
        "key": execution.idempotency and execution.idempotency.key,
        "digest": execution.idempotency and execution.idempotency.digest,
        "record": record,
        **_state(execution),
    }
    connection.execute(
        "INSERT INTO executions (id, tenant, status, reason, template, created_at, finished_at, size, key, digest,"
        " record) VALUES (:id, :tenant, :status, :reason, :template, :created_at, :finished_at, :size, :key, :digest,"
        " :record)",
        row,
    )
    connection.execute("INSERT INTO requests VALUES (?, ?)", (execution.id, request))
    labels = execution.request.labels
    connection.executemany("INSERT INTO labels VALUES (?, ?, ?)", [(execution.id, *pair) for pair in labels.items()])
    _insert_events(connection, execution.id, events)


def save(connection: sqlite3.Connection, execution: Execution, events: Sequence[Event]) -> None:
    """Replace the record and add events. Raises `NotFoundError` if it was never created, or is pruned."""
    record = encode_record(execution)
    listed = encode_listed(execution, record)
    row = {
        "id": execution.id,
        "record": record,
        "listed": listed,
        "bytes": len(record) + len(listed or b"") + _size(events),
        **_state(execution),
    }
    updated = connection.execute(
        "UPDATE executions SET status = :status, reason = :reason, finished_at = :finished_at,"
        " size = size - length(record) - ifnull(length(listed), 0) + :bytes, record = :record, listed = :listed"
        " WHERE id = :id",
        row,
    )
    _must_exist(updated, execution.id)
    _insert_events(connection, execution.id, events)


def append(connection: sqlite3.Connection, execution_id: str, events: Sequence[Event]) -> None:
    """Add events. Raises `NotFoundError`."""
    values = (_size(events), execution_id)
    updated = connection.execute("UPDATE executions SET size = size + ? WHERE id = ?", values)
    _must_exist(updated, execution_id)
    _insert_events(connection, execution_id, events)


def _insert_events(connection: sqlite3.Connection, execution_id: str, events: Sequence[Event]) -> None:
    connection.executemany(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?)",
        [(execution_id, event.number, event.kind, event.data, event.journal_offset) for event in events],
    )


def get(connection: sqlite3.Connection, execution_id: str, tenant: str | None) -> Execution | None:
    """One record, if it is the tenant's; anybody's if none is named."""
    values = (execution_id, tenant)
    row = connection.execute(f"{_SELECT} WHERE id = ? AND tenant = ifnull(?, tenant)", values).fetchone()
    return row and decode_record(*row)


def unfinished(connection: sqlite3.Connection) -> list[Execution]:
    """Records without an end, oldest first."""
    return [decode_record(*row) for row in connection.execute(f"{_SELECT} WHERE finished_at IS NULL ORDER BY id")]


def events_after(connection: sqlite3.Connection, execution_id: str, after: int, most: int | None = None) -> list[Event]:
    """Events numbered above ``after``: the first ``most`` of them, or all."""
    rows = connection.execute(
        "SELECT number, kind, data, journal_offset FROM events WHERE execution_id = ? AND number > ?"
        " ORDER BY number LIMIT ?",
        (execution_id, after, -1 if most is None else most),
    )
    return [Event(number, EventKind(kind), data, offset) for number, kind, data, offset in rows]


def page_query(tenant: str, where: ListFilter, limit: int, cursor: str | None) -> Callable[[sqlite3.Connection], Page]:
    """The query for one page. Raises `InvalidRequestError` for a cursor that is not ours."""
    conditions, values = _conditions(tenant, where)
    if cursor is not None:
        conditions.append("id < ?")
        values.append(decode_cursor(cursor))
    sql = f"{_LISTED} WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?"

    def run(connection: sqlite3.Connection) -> Page:
        rows = connection.execute(sql, (*values, limit + 1)).fetchall()
        executions = tuple(decode_listed(*row) for row in rows[:limit])
        return Page(executions, encode_cursor(executions[-1].id) if len(rows) > limit else None)

    return run


def _conditions(tenant: str, where: ListFilter) -> tuple[list[str], list[Any]]:
    """SQL with placeholders only, and their values."""
    pairs: list[tuple[str, tuple[Any, ...]]] = [("tenant = ?", (tenant,))]
    if where.statuses:
        pairs.append((f"status IN ({', '.join('?' * len(where.statuses))})", tuple(sorted(where.statuses))))
    simple = {
        "reason = ?": where.reason,
        "template = ?": where.template,
        "created_at > ?": where.created_after,
        "created_at < ?": where.created_before,
    }
    pairs += [(sql, (value,)) for sql, value in simple.items() if value is not None]
    pairs += [
        ("id IN (SELECT execution_id FROM labels WHERE name = ? AND value = ?)", pair) for pair in where.labels.items()
    ]
    return [sql for sql, _ in pairs], [value for _, values in pairs for value in values]


def bytes_by_tenant(connection: sqlite3.Connection) -> dict[str, int]:
    """Bytes of each tenant's finished executions."""
    sql = "SELECT tenant, sum(size) FROM executions WHERE finished_at IS NOT NULL GROUP BY tenant"
    return dict(connection.execute(sql).fetchall())


def delete_old(connection: sqlite3.Connection, finished_before: float) -> int:
    """Delete some that finished before the instant; return how many."""
    sql = "SELECT id FROM executions WHERE finished_at < ? ORDER BY finished_at LIMIT ?"
    victims = connection.execute(sql, (finished_before, TOGETHER)).fetchall()
    connection.executemany("DELETE FROM executions WHERE id = ?", victims)
    return len(victims)


def delete_oldest(connection: sqlite3.Connection, tenant: str, enough: int) -> tuple[int, int]:
    """Delete some of the tenant's finished ones until they had ``enough`` bytes; return how many, and their bytes."""
    rows = connection.execute(
        "SELECT id, size FROM executions WHERE tenant = ? AND finished_at IS NOT NULL ORDER BY finished_at LIMIT ?",
        (tenant, TOGETHER),
    )
    victims, freed = [], 0
    for execution_id, size in rows.fetchall():
        if freed >= enough:
            break
        victims.append((execution_id,))
        freed += size
    connection.executemany("DELETE FROM executions WHERE id = ?", victims)
    return len(victims), freed


def _state(execution: Execution) -> dict[str, object]:
    reason = execution.outcome.reason if execution.outcome is not None else None
    return {"status": execution.status, "reason": reason, "finished_at": execution.finished_at}


def _size(events: Sequence[Event]) -> int:
    return sum(len(event.data) for event in events)


def _must_exist(updated: sqlite3.Cursor, execution_id: str) -> None:
    if updated.rowcount != 1:
        raise NotFoundError(f"there is no execution {execution_id}")
