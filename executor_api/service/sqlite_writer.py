"""The one thread that writes: all that queued up while it was busy becomes one transaction (group commit)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from executor_api.errors import UnavailableError

T = TypeVar("T")

MOST_TOGETHER = 256
"""Operations in one transaction: bounds how long the first of them waits for the last."""


@dataclass(frozen=True, slots=True)
class _Queued:
    operation: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Answer:
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class Writer:
    """Runs operations in order on its own thread. Its futures are done only after their transaction is committed."""

    def __init__(self, connection: sqlite3.Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        self._queue: SimpleQueue[_Queued | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Queue an operation. Its future raises what the operation did, or `UnavailableError` for a failing disk."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Queued(operation, future))
        return future

    def stop(self) -> None:
        """Commit what is queued, close the connection, end the thread. Blocks; nothing may be submitted any more."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        more = True
        while more:
            batch, more = self._take()
            if batch:
                self._loop.call_soon_threadsafe(_deliver, self._commit(batch))
        self._connection.close()

    def _take(self) -> tuple[list[_Queued], bool]:
        batch: list[_Queued] = []
        item = self._queue.get()
        with suppress(Empty):
            while item is not None:
                batch.append(item)
                if len(batch) == MOST_TOGETHER:
                    return batch, True
                item = self._queue.get_nowait()
        return batch, item is not None

    def _commit(self, batch: list[_Queued]) -> list[_Answer]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            answers = [self._attempt(queued) for queued in batch]
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            return [_Answer(queued.future, error=unavailable(error)) for queued in batch]
        return answers

    def _attempt(self, queued: _Queued) -> _Answer:
        self._connection.execute("SAVEPOINT operation")
        try:
            answer = _Answer(queued.future, queued.operation(self._connection))
        except Exception as error:  # blind, for it belongs to whoever awaits this operation; the others go on
            if not self._connection.in_transaction:
                raise  # SQLite has given up the whole transaction, as it does when the disk is full
            self._connection.execute("ROLLBACK TO operation")
            answer = _Answer(queued.future, error=unavailable(error) if isinstance(error, sqlite3.Error) else error)
        self._connection.execute("RELEASE operation")
        return answer


def unavailable(error: sqlite3.Error) -> UnavailableError:
    """What callers get to see of a database that fails: it may work again in seconds."""
    return UnavailableError(f"the database can't be used now ({error}); check its disk", retry_after=5.0)


def _deliver(answers: list[_Answer]) -> None:
    for answer in answers:
        if answer.future.done():
            continue  # whoever asked was cancelled
        if answer.error is not None:
            answer.future.set_exception(answer.error)
        else:
            answer.future.set_result(answer.result)
