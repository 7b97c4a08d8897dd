"""The store in one SQLite file: durable once committed, one service per file, no part of it blocks the event loop."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from executor_api.domain.execution import Event, Execution
from executor_api.domain.pool import Share
from executor_api.errors import UnavailableError
from executor_api.service import sqlite_records as records
from executor_api.service.pruning import prune
from executor_api.service.sqlite_schema import lock_file, open_reader, open_writer
from executor_api.service.sqlite_writer import Writer, unavailable
from executor_api.service.store import Change, Created, ListFilter, Orders, Page

T = TypeVar("T")

_VACUUM_PAGES = 2000  # pages of 4 KiB given back in one transaction


@dataclass(frozen=True, slots=True)
class _Files:
    """What an open store holds; closed in one go."""

    lock: int
    writer: Writer
    reader: sqlite3.Connection
    read_thread: ThreadPoolExecutor

    def close(self) -> None:
        """Blocks until everything queued is committed."""
        self.reader.close()
        self.writer.stop()
        os.close(self.lock)


class SqliteStore:
    """`service.store.Store` in the file at ``path``. A killed process loses nothing that was acknowledged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: _Files | None = None
        self.replicas = Alone(self)

    async def open(self) -> None:
        """Open or create. Raises `ConfigurationError` with the fix: not writable, second service, newer schema."""
        loop = asyncio.get_running_loop()
        with ExitStack() as undo:
            thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-reader")
            undo.callback(thread.shutdown, wait=False)
            self._files = await loop.run_in_executor(thread, _open_files, self._path, thread, loop)
            undo.pop_all()

    async def close(self) -> None:
        """Commit what is pending and close. Safe to call twice, and on a store that could not be opened."""
        files, self._files = self._files, None
        if files is not None:
            await asyncio.get_running_loop().run_in_executor(files.read_thread, files.close)
            files.read_thread.shutdown(wait=False)

    async def create(self, execution: Execution, events: Sequence[Event] = ()) -> Created:
        """Record a new execution and its events, or return the one its idempotency key has made before."""
        return await self._write(lambda connection: records.create(connection, execution, events))

    async def find_earlier(self, execution: Execution) -> Execution | None:
        """Return what its idempotency key has made, if anything. Raises `IdempotencyConflictError`."""
        return await self._read(lambda connection: records.find_earlier(connection, execution))

    async def save(self, execution: Execution, events: Sequence[Event] = ()) -> None:
        """Replace the record and append its events, in one transaction. Raises `NotFoundError`."""
        await self._write(lambda connection: records.save(connection, execution, events))

    async def append(self, execution_id: str, events: Sequence[Event]) -> None:
        """Append events. Raises `NotFoundError`."""
        await self._write(lambda connection: records.append(connection, execution_id, events))

    async def get(self, execution_id: str, tenant: str | None = None) -> Execution | None:
        """The record, if it is the tenant's; anybody's if none is named."""
        return await self._read(lambda connection: records.get(connection, execution_id, tenant))

    async def events(self, execution_id: str, after: int = 0, most: int | None = None) -> list[Event]:
        """Events numbered above ``after``, in order: the first ``most`` of them, or all."""
        return await self._read(lambda connection: records.events_after(connection, execution_id, after, most))

    async def page(self, tenant: str, where: ListFilter, limit: int, cursor: str | None = None) -> Page:
        """A tenant's executions, newest first. Raises `InvalidRequestError` for a cursor that isn't ours."""
        return await self._read(records.page_query(tenant, where, limit, cursor))

    async def unfinished(self) -> list[Execution]:
        """Every execution without an outcome, oldest first."""
        return await self._read(records.unfinished)

    async def prune(self, finished_before: float, keep_bytes: int) -> int:
        """Delete finished executions older than the instant, and those beyond the size; return how many."""
        deleted = await prune(self, finished_before, keep_bytes)
        while await self._write(_give_back_pages):
            pass
        return deleted

    async def delete_old(self, finished_before: float) -> int:
        """For `pruning`."""
        return await self._write(lambda connection: records.delete_old(connection, finished_before))

    async def bytes_by_tenant(self) -> dict[str, int]:
        """For `pruning`."""
        return await self._read(records.bytes_by_tenant)

    async def delete_oldest(self, tenant: str, enough: int) -> tuple[int, int]:
        """For `pruning`."""
        return await self._write(lambda connection: records.delete_oldest(connection, tenant, enough))

    def _write(self, operation: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        return self._opened().writer.submit(operation)

    async def _read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        files = self._opened()
        try:
            return await asyncio.get_running_loop().run_in_executor(files.read_thread, operation, files.reader)
        except sqlite3.Error as error:
            raise unavailable(error) from error

    def _opened(self) -> _Files:
        if self._files is None:
            raise UnavailableError("the store is closed")
        return self._files


class Alone:
    """`service.store.Replicas` where there is one: a file has no second writer."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._taken = False

    async def beat(self) -> Share:
        """It is the only one."""
        return Share()

    async def take_over(self, _silent_seconds: float, _known: Collection[str], _before: float) -> list[Execution]:
        """At the start all, for who drove them is dead; later none, for they are driven here."""
        if self._taken:
            return []
        self._taken = True
        return await self._store.unfinished()

    async def orders(self, _driven: Collection[str]) -> Orders:
        """Nobody gives any."""
        return Orders()

    async def request_cancel(self, execution_id: str) -> None:
        """Who drives it is told here."""

    async def let_go(self) -> None:
        """The next start takes all."""

    async def changes(self) -> AsyncIterator[Change]:
        """Yield nothing: whatever happens, happens here."""
        await asyncio.get_running_loop().create_future()
        yield Change("", for_driver=False)


def _open_files(path: Path, read_thread: ThreadPoolExecutor, loop: asyncio.AbstractEventLoop) -> _Files:
    with ExitStack() as undo:
        lock = lock_file(path)
        undo.callback(os.close, lock)
        connection = open_writer(path)
        undo.callback(connection.close)
        reader = open_reader(path)
        undo.pop_all()
    return _Files(lock, Writer(connection, loop), reader, read_thread)


def _give_back_pages(connection: sqlite3.Connection) -> bool:
    """Shrink the file by some of its free pages; True while there are more."""
    connection.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return bool(free)
