"""The store in one PostgreSQL database, shared by any number of replicas."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from executor_api.domain.execution import Event, EventKind, Execution
from executor_api.domain.pool import Share
from executor_api.errors import NotFoundError
from executor_api.service.postgres import statements as sql
from executor_api.service.postgres.database import Database
from executor_api.service.postgres.pages import page_query
from executor_api.service.postgres.schema import prepare
from executor_api.service.pruning import TOGETHER, prune
from executor_api.service.record_codec import (
    check_same_request,
    decode_listed,
    decode_record,
    encode_cursor,
    encode_listed,
    encode_record,
)
from executor_api.service.store import Change, Created, ListFilter, Orders, Page, TakenOverError

_ALIVE_SECONDS = 5.0  # a replica that was silent for so long is not reckoned with
_CONNECTIONS = 16
_CONNECTIONS_APART = 2  # no burst of calls may keep us from showing that we live


class PostgresStore:
    """`service.store.Store` in the database at ``url``, for the replica of this name."""

    def __init__(self, url: str, replica: str) -> None:
        self._url = url
        self._replica = replica
        self._database = Database(url, _CONNECTIONS)
        self._apart = Database(url, _CONNECTIONS_APART)
        self.replicas = PostgresReplicas(self._apart, replica)

    async def open(self) -> None:
        """Migrate where needed, and announce the replica. Raises `ConfigurationError` with the fix."""
        await asyncio.get_running_loop().run_in_executor(None, prepare, self._url)
        self._database.open()
        self._apart.open()
        await self.replicas.beat()

    async def close(self) -> None:
        """Close the connections. Safe to call twice, and on a store that could not be opened."""
        await self._database.close()
        await self._apart.close()

    async def create(self, execution: Execution, events: Sequence[Event] = ()) -> Created:
        """Record a new execution, driven here, or return the one its idempotency key has made before."""
        values = {**self._new_row(execution, events), **_columns(events)}
        while True:
            made = await self._rows(sql.CREATE, **values)
            stored = None if made else await self.find_earlier(execution) or await self.get(execution.id)
            if made or stored is not None:
                # Found under its own id: made by this very call, whose first answer was lost.
                existed = stored is not None and stored.id != execution.id
                return Created(stored if stored is not None and existed else execution, existed=existed)

    async def find_earlier(self, execution: Execution) -> Execution | None:
        """Return what its idempotency key has made, if anything. Raises `IdempotencyConflictError`."""
        key = execution.idempotency
        rows = await self._rows(sql.BY_KEY, tenant=execution.tenant, key=key.key) if key is not None else []
        for row in rows:
            earlier = _decoded(row)
            if key is not None:
                check_same_request(earlier, key)
            return earlier
        return None

    async def save(self, execution: Execution, events: Sequence[Event] = ()) -> None:
        """Replace the record and append its events, in one transaction. Raises `NotFoundError`, `TakenOverError`."""
        record = encode_record(execution)
        listed = encode_listed(execution, record)
        size = len(record) + len(listed or b"")
        values = {"bytes": size, "record": record, "listed": listed, **_state(execution)}
        await self._change(sql.SAVE, execution.id, events, values)

    async def append(self, execution_id: str, events: Sequence[Event]) -> None:
        """Append events. Raises `NotFoundError` and `TakenOverError`."""
        await self._change(sql.APPEND, execution_id, events, {})

    async def get(self, execution_id: str, tenant: str | None = None) -> Execution | None:
        """The record, if it is the tenant's; anybody's if none is named."""
        rows = await self._rows(sql.BY_ID, id=execution_id, tenant=tenant)
        return _decoded(rows[0]) if rows else None

    async def events(self, execution_id: str, after: int = 0, most: int | None = None) -> list[Event]:
        """Events numbered above ``after``, in order: the first ``most`` of them, or all."""
        rows = await self._rows(sql.EVENTS_AFTER, id=execution_id, after=after, most=most)
        return [Event(number, EventKind(kind), bytes(data), offset) for number, kind, data, offset in rows]

    async def page(self, tenant: str, where: ListFilter, limit: int, cursor: str | None = None) -> Page:
        """A tenant's executions, newest first. Raises `InvalidRequestError` for a cursor that isn't ours."""
        rows = await self._rows(page_query(tenant, where, limit + 1, cursor))
        executions = tuple(
            _told_of(decode_listed(bytes(record)), cancelled=cancelled) for record, cancelled in rows[:limit]
        )
        return Page(executions, encode_cursor(executions[-1].id) if len(rows) > limit else None)

    async def prune(self, finished_before: float, keep_bytes: int) -> int:
        """Delete finished executions older than the instant, and those beyond the size; return how many.

        0 if another replica is at it.
        """

        async def alone(connection: AsyncConnection) -> int:
            if not (await connection.execute(sql.PRUNE_LOCK)).scalar_one():
                return 0
            try:
                return await prune(_Shelf(connection), finished_before, keep_bytes)
            finally:
                await connection.execute(sql.PRUNE_UNLOCK)

        return await self._database.run(alone)

    async def _change(
        self, statement: sa.TextClause, execution_id: str, events: Sequence[Event], values: dict[str, Any]
    ) -> None:
        """Raises `TakenOverError` unless it is driven here."""
        columns = _columns(events)
        if await self._rows(statement, id=execution_id, owner=self._replica, **columns, **values):
            return
        if await self._rows(sql.OWNER, id=execution_id):
            raise TakenOverError(f"another replica drives execution {execution_id}")
        raise NotFoundError(f"there is no execution {execution_id}")

    async def _rows(self, statement: sa.Executable, **values: Any) -> Sequence[Any]:
        return await _fetch(self._database, statement, **values)

    def _new_row(self, execution: Execution, events: Sequence[Event]) -> dict[str, Any]:
        record = encode_record(execution)
        request = execution.request.model_dump_json().encode()
        return {
            "id": execution.id,
            "tenant": execution.tenant,
            "template": execution.request.template,
            "labels": json.dumps(execution.request.labels),
            "created_at": execution.created_at,
            "size": len(record) + len(request) + sum(len(event.data) for event in events),
            "key": execution.idempotency and execution.idempotency.key,
            "owner": self._replica,
            "record": record,
            "request": request,
            **_state(execution),
        }


class PostgresReplicas:
    """`service.store.Replicas`: rows say who drives what, notifications say when to look."""

    def __init__(self, database: Database, replica: str) -> None:
        self._database = database
        self._replica = replica

    async def beat(self) -> Share:
        """Show that this replica lives, by the database's clock."""

        async def beat(connection: AsyncConnection) -> Share:
            await connection.execute(sql.BEAT, {"owner": self._replica})
            found = await connection.execute(sql.ALIVE, {"owner": self._replica, "silent": _ALIVE_SECONDS})
            return Share(*found.one())

        return await self._database.run(beat)

    async def take_over(self, silent_seconds: float, known: Collection[str], before: float) -> list[Execution]:
        """Make ours what nobody drives, oldest first."""
        rows = await _fetch(
            self._database,
            sql.TAKE_OVER,
            owner=self._replica,
            silent=silent_seconds,
            known=list(known),
            before=before,
        )
        return [_decoded(row[:3]) for row in rows]

    async def orders(self, driven: Collection[str]) -> Orders:
        """What others did to these executions."""
        if not driven:
            return Orders()
        rows = await _fetch(self._database, sql.ORDERS, owner=self._replica, driven=list(driven))
        lost = frozenset(execution_id for execution_id, is_lost in rows if is_lost)
        return Orders(frozenset(execution_id for execution_id, _ in rows) - lost, lost)

    async def request_cancel(self, execution_id: str) -> None:
        """Tell whoever drives it that a client wants its end."""
        await _fetch(self._database, sql.REQUEST_CANCEL, id=execution_id)

    async def let_go(self) -> None:
        """Leave everything unfinished to the others, at once. A store that is closed has done so."""

        async def let_go(connection: AsyncConnection) -> None:
            await connection.execute(sql.LET_GO, {"owner": self._replica})

        if self._database.is_open:
            await self._database.run(let_go)

    async def changes(self) -> AsyncIterator[Change]:
        """What is notified while the connection lasts. Raises `UnavailableError` at its end."""
        async with self._database.listening(sql.CHANGED, sql.FOR_DRIVER) as notifications:
            async for notification in notifications:
                yield Change(notification.payload, notification.channel == sql.FOR_DRIVER)


async def _fetch(database: Database, statement: sa.Executable, **values: Any) -> Sequence[Any]:
    async def fetch(connection: AsyncConnection) -> Sequence[Any]:
        return (await connection.execute(statement, values)).all()

    return await database.run(fetch)


class _Shelf:
    """`pruning.Shelf` over one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def delete_old(self, finished_before: float) -> int:
        """Some that finished before the instant."""
        return len(await self._sizes(sql.DELETE_OLD, finished_before=finished_before))

    async def bytes_by_tenant(self) -> dict[str, int]:
        """What each holds."""
        rows = await self._connection.execute(sql.BYTES_BY_TENANT)
        return {tenant: size for tenant, size in rows.all()}  # noqa: C416 - rows are no pairs to mypy

    async def delete_oldest(self, tenant: str, enough: int) -> tuple[int, int]:
        """Some of the tenant's."""
        sizes = await self._sizes(sql.DELETE_OLDEST, tenant=tenant, enough=enough)
        return len(sizes), sum(sizes)

    async def _sizes(self, statement: sa.TextClause, **values: Any) -> Sequence[int]:
        return (await self._connection.execute(statement, {**values, "most": TOGETHER})).scalars().all()


def _decoded(row: Iterable[Any]) -> Execution:
    record, request, cancelled = row
    return _told_of(decode_record(bytes(record), bytes(request)), cancelled=cancelled)


def _told_of(execution: Execution, *, cancelled: bool) -> Execution:
    return replace(execution, cancel_requested=True) if cancelled else execution


def _columns(events: Sequence[Event]) -> dict[str, list[Any]]:
    return {
        "numbers": [event.number for event in events],
        "kinds": [str(event.kind) for event in events],
        "datas": [event.data for event in events],
        "offsets": [event.journal_offset for event in events],
    }


def _state(execution: Execution) -> dict[str, Any]:
    reason = execution.outcome.reason if execution.outcome is not None else None
    return {
        "status": str(execution.status),
        "reason": None if reason is None else str(reason),
        "finished_at": execution.finished_at,
    }
