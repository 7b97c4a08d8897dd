"""An unfinished execution in memory: its record, the events not stored yet, and those who follow it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from typing import Any

import structlog

from executor_api.domain.execution import Event, EventKind, Execution, Output
from executor_api.domain.history import encode_step
from executor_api.domain.output import assemble
from executor_api.errors import ExecutorError, UnavailableError
from executor_api.service.clock import backoff
from executor_api.service.store import EVENTS_AT_ONCE, Store, TakenOverError
from executor_api.service.tail import Tail, Tally

FLUSH_SECONDS = 0.1
"""Output of a running call is stored at most this late, so that a crash keeps it."""
FLUSH_BYTES = 64 * 1024
"""With so many bytes not stored, the journal is not read on before they are."""
COMMIT_SECONDS = 60.0
"""How long a store that can't be used is asked again before a call is given up that did not run yet."""

_log = structlog.get_logger(__name__)


class NotRecordedError(ExecutorError):
    """The store did not take a new execution, for a reason that its client is told: its call must never run."""

    def __init__(self, why: Exception) -> None:
        self.why = why
        super().__init__(f"it could not be recorded: {why}")


class Live:
    """The one place where an unfinished execution changes.

    A ``new`` one is recorded with the first flush; ``stored`` are the events of one from before a restart.
    """

    def __init__(self, record: Execution, store: Store, stored: Iterable[Event] = (), *, new: bool = False) -> None:
        self.record = record
        self.finished = asyncio.Event()  # or parted
        self.parted = False
        """Whether another replica drives it now, or nobody ever will: what is here is of yesterday."""
        self._store = store
        self._new = new
        self._recording = False
        self._recorded = asyncio.Event()  # or refused
        self._refusal: NotRecordedError | None = None
        self._saved = record
        self._tail = Tail(stored)
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._saving = asyncio.Lock()
        self._news = asyncio.Event()
        if not self._tail.last:
            self._append(EventKind.STATUS, encode_step(record, record.created_at), None)

    @property
    def tally(self) -> Tally:
        """What its events add up to."""
        return self._tail.tally

    def change(self, **fields: Any) -> None:
        """Change the record in memory; it is stored with the next flush, see `store_soon`."""
        self.record = replace(self.record, **fields)

    def emit(self, kind: EventKind, data: bytes, journal_offset: int | None = None) -> None:
        """Add an event; the store has it within `FLUSH_SECONDS`, or as soon as somebody follows."""
        self._append(kind, data, journal_offset)
        self.store_soon()

    def emit_status(self, at: float, journal_offset: int | None = None, note: str = "") -> None:
        """Add an event that tells the record's status as it is now; ``note`` says what led to it, if that is odd."""
        self.emit(EventKind.STATUS, encode_step(self.record, at, note), journal_offset)

    def store_soon(self) -> None:
        """Have what is not stored yet stored within `FLUSH_SECONDS`."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush_late)

    @property
    def must_flush(self) -> bool:
        """Whether too much is not stored yet to go on reading."""
        return self._tail.unstored_bytes >= FLUSH_BYTES

    async def flush(self) -> None:
        """Store what is not stored yet, in one transaction. Raises `UnavailableError`; nothing is lost then.

        Raises `TakenOverError` and `NotRecordedError`, as `commit` and `finish` do.
        """
        self._recording = True
        await _undivided(self._flush())

    async def recorded(self) -> None:
        """Return once the store has a new execution, which is recorded now unless it is already being recorded.

        Raises `NotRecordedError`.
        """
        if self._new and not self._recording:
            await self.flush()
        elif self._new:
            await self._recorded.wait()
        if self._refusal is not None:
            raise self._refusal

    async def commit(self) -> None:
        """Store what is not stored yet, if need be as soon as the store comes back. Raises `UnavailableError`."""
        until = asyncio.get_running_loop().time() + COMMIT_SECONDS
        for delay in backoff():
            try:
                return await self.flush()
            except UnavailableError:
                if asyncio.get_running_loop().time() + delay > until:
                    raise
            await asyncio.sleep(delay)
        raise AssertionError("backoff never ends")

    async def finish(self, on_end: Callable[[], None], **fields: Any) -> None:
        """Store the outcome, all remaining events and FINISHED in one transaction, then tell everybody.

        ``on_end`` is called once the record has its outcome, before anybody hears of that.
        Raises `UnavailableError` if the store can't take it now; it can be tried again.
        """
        self._recording = True
        await _undivided(self._finish(on_end, fields))

    def part(self) -> None:
        """Another replica drives it now, or nobody does. Whoever waits or follows here must look into the store."""
        self.parted = True
        self._stop_timer()
        self.finished.set()
        self._tell()

    async def _flush(self) -> None:
        async with self._saving:
            await self._put(self.record, self._tail.unstored())
            if not self.finished.is_set():  # else it is kept whole for those who follow it to its end
                self._tail.forget_stored()

    async def _finish(self, on_end: Callable[[], None], fields: Mapping[str, Any]) -> None:
        async with self._saving:
            record = replace(self.record, **fields)
            batch = [*self._tail.unstored(), self._tail.finishing()]
            await self._put(record, batch)
            self._end(record, batch, on_end)

    async def _put(self, record: Execution, batch: list[Event]) -> None:
        try:
            if self._new:
                await self._create(record, batch)
            elif record is not self._saved:
                await self._store.save(record, batch)
            elif batch:
                await self._store.append(record.id, batch)
        except (TakenOverError, NotRecordedError):
            self.part()
            raise
        self._mark_stored(record, batch)

    async def _create(self, record: Execution, batch: list[Event]) -> None:
        """Only once: a client that was told of a failure must not find its call running later."""
        if self._refusal is not None:
            raise self._refusal
        try:
            await self._store.create(record, batch)
        except Exception as error:  # it belongs to whoever submitted the call
            self._refusal = NotRecordedError(error)
            raise self._refusal from error
        else:
            self._new = False
        finally:
            self._recorded.set()

    def abandon(self, on_end: Callable[[], None], **fields: Any) -> None:
        """Finish in memory only: the store refuses, and nobody shall wait for ever. A restart settles the record."""
        self._stop_timer()
        self._end(replace(self.record, **fields), [*self._tail.above(0), self._tail.finishing()], on_end)

    async def stored(self) -> Execution | None:
        """The record as the store has it. Raises `UnavailableError`."""
        return await self._store.get(self.record.id) if self._refusal is None else None

    @property
    def is_stored(self) -> bool:
        """Whether the store has the record as it is."""
        return self._saved is self.record

    def whole_output(self) -> Output | None:
        """The output so far if all of it is in memory."""
        return self._tail.whole_output()

    async def events(self) -> list[Event]:
        """All events so far."""
        tail, first = self._tail.above(0), self._tail.first
        stored = await self._store.events(self.record.id) if first > 1 else []
        return [*(event for event in stored if event.number < first), *tail]

    async def output(self) -> Output:
        """The output so far. Mostly it is whole in memory, and whoever waits for a short call is spared the store."""
        whole = self.whole_output()
        return whole if whole is not None else assemble(await self.events())

    async def follow(self, after: int) -> AsyncIterator[Event]:
        """Yield events numbered above ``after``, those to come included, until FINISHED, or until it has `parted`."""
        while True:
            batch = await self._above(after)
            await self._keep(batch)
            if self.parted:
                return
            for event in batch:
                yield event
                after = event.number
            if not batch and self.finished.is_set():
                return
            if not batch:
                await self._news.wait()

    async def _keep(self, batch: list[Event]) -> None:
        """Store events before they are shown: after a crash, a follower comes back with the number of the last one.

        A store that can't take them now holds nobody up.
        """
        if not batch or batch[-1].number <= self._tail.stored or self.finished.is_set():
            return
        try:
            await self.flush()
        except UnavailableError as error:
            _log.warning("events are shown before they are stored", execution=self.record.id, error=str(error))
        except TakenOverError:
            pass  # it has parted, and they are not shown

    async def _above(self, after: int) -> list[Event]:
        if after + 1 < self._tail.first:
            return await self._store.events(self.record.id, after, EVENTS_AT_ONCE)
        return self._tail.above(after)

    def _append(self, kind: EventKind, data: bytes, journal_offset: int | None) -> None:
        self._tail.append(kind, data, journal_offset)
        self._tell()

    def _mark_stored(self, record: Execution, batch: list[Event]) -> None:
        self._saved = record
        self._tail.mark_stored(batch)
        if self._tail.stored >= self._tail.last:
            self._stop_timer()

    def _end(self, record: Execution, tail: list[Event], on_end: Callable[[], None]) -> None:
        self.record = record
        self._tail.end(tail)
        on_end()
        self.finished.set()
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news.clear()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush_late(self) -> None:
        self._timer = None
        self._flushing = asyncio.get_running_loop().create_task(self.flush())
        self._flushing.add_done_callback(self._check_flush)

    def _check_flush(self, task: asyncio.Task[None]) -> None:
        """A flush that failed loses nothing: events stay in memory, and the final record carries them again."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.parted:
            _log.error("events could not be stored", execution=self.record.id, error=repr(error))


async def _undivided(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end. A cancel that comes meanwhile is raised after it, so that what was done is known."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
