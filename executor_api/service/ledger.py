"""Every execution, wherever it is now: driven here, finished a moment ago, or in the store, maybe driven elsewhere."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from executor_api.domain.execution import Event, Execution, Output
from executor_api.domain.output import assemble
from executor_api.errors import NotFoundError
from executor_api.service.drive import Drive
from executor_api.service.news import News
from executor_api.service.store import EVENTS_AT_ONCE, ListFilter, Page, Store
from executor_api.service.timeline import Overhead

MOST_ENTRIES = 256
MOST_BYTES = 16 * 1024 * 1024


class Ledger:
    """Answers from the nearest place that knows."""

    def __init__(self, store: Store) -> None:
        self.drives: dict[str, Drive] = {}
        self.news = News()
        self._store = store
        self._recent = Recent()

    def settled(self, drive: Drive) -> None:
        """The drive has its outcome: from now on it is history. Or another replica has it."""
        record = drive.live.record
        self.drives.pop(record.id, None)
        if record.status.finished:
            self._recent.add(Finished(record, drive.live.whole_output(), drive.timeline.overhead()))

    def driving(self, execution_id: str) -> Drive | None:
        """The drive of an execution that is driven here."""
        drive = self.drives.get(execution_id)
        return None if drive is None or drive.live.parted else drive

    async def record(self, execution_id: str) -> Execution:
        """The record as it is now, whoever's it is. Raises `NotFoundError`."""
        return await self._record(execution_id)

    async def _record(self, execution_id: str, tenant: str | None = None) -> Execution:
        drive, finished = self.driving(execution_id), self._recent.get(execution_id)
        if drive is not None:
            return drive.live.record
        stored = finished.record if finished is not None else await self._store.get(execution_id, tenant)
        if stored is None:
            raise NotFoundError(f"there is no execution {execution_id[:64]!r}")
        return stored

    async def owned(self, tenant: str, execution_id: str) -> Execution:
        """The tenant's record. Raises `NotFoundError` for somebody else's, too.

        The store does not fetch that: nobody can tell by the time it takes whether it exists.
        """
        record = await self._record(execution_id, tenant)
        if record.tenant != tenant:
            raise NotFoundError(f"there is no execution {execution_id[:64]!r}")
        return record

    async def wait(self, execution_id: str, seconds: float) -> Execution:
        """The record once it is finished, or as it is after so many seconds. Raises `NotFoundError`."""
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    return await self._finished(execution_id)
        return await self.record(execution_id)

    async def _finished(self, execution_id: str) -> Execution:
        with self.news.of(execution_id) as news:
            while not (record := await self.record(execution_id)).status.finished:
                drive = self.driving(execution_id)
                await (drive.live.finished.wait() if drive is not None else news.wait())
        return record

    async def events(self, execution_id: str) -> list[Event]:
        """Its events so far."""
        drive = self.driving(execution_id)
        return await (drive.live.events() if drive is not None else self._store.events(execution_id))

    async def output(self, execution_id: str) -> Output:
        """What it printed so far."""
        finished = self._recent.get(execution_id)
        if finished is not None and finished.output is not None:
            return finished.output
        drive = self.driving(execution_id)
        return await drive.live.output() if drive is not None else assemble(await self._store.events(execution_id))

    async def follow(self, tenant: str, execution_id: str, after: int) -> AsyncIterator[Event]:
        """Its events above ``after``, until it is finished. Raises `NotFoundError`."""
        await self.owned(tenant, execution_id)
        while True:
            drive = self.driving(execution_id)
            source = drive.live.follow(after) if drive is not None else self._follow_elsewhere(execution_id, after)
            async for event in source:
                yield event
                after = event.number
            if self.driving(execution_id) is None if drive is None else not drive.live.parted:
                return

    async def _follow_elsewhere(self, execution_id: str, after: int) -> AsyncIterator[Event]:
        """Its stored events as they come, until it is finished or driven here."""
        with self.news.of(execution_id) as news:
            while self.driving(execution_id) is None:
                finished = (await self.record(execution_id)).status.finished
                events = await self._store.events(execution_id, after, EVENTS_AT_ONCE)
                for event in events:
                    yield event
                    after = event.number
                if finished and len(events) < EVENTS_AT_ONCE:
                    return
                if not events:
                    await news.wait()

    async def page(self, tenant: str, where: ListFilter, limit: int, cursor: str | None) -> Page:
        """Executions as they are now: one that the store shows in a status it has left since is left out."""
        page = await self._store.page(tenant, where, limit, cursor)
        current = (self._current(record) for record in page.executions)
        shown = tuple(record for record in current if not where.statuses or record.status in where.statuses)
        return Page(shown, page.next_cursor)

    def overhead(self, execution_id: str) -> Overhead | None:
        """What the service itself took of an execution that finished a moment ago."""
        finished = self._recent.get(execution_id)
        return finished.overhead if finished is not None else None

    def _current(self, record: Execution) -> Execution:
        drive, finished = self.driving(record.id), self._recent.get(record.id)
        if drive is not None:
            return drive.live.record
        return finished.record if finished is not None else record


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished execution. ``output`` is None where it was too large to keep, or its events are in the store only."""

    record: Execution
    output: Output | None
    overhead: Overhead | None

    @property
    def size(self) -> int:
        """Bytes of output held."""
        if self.output is None:
            return 0
        return len(self.output.stdout) + len(self.output.stderr) + sum(map(len, self.output.artifacts.values()))


class Recent:
    """Those that finished last, for most answers are fetched right then. Bounded in number and bytes of output."""

    def __init__(self, most_entries: int = MOST_ENTRIES, most_bytes: int = MOST_BYTES) -> None:
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._entries: OrderedDict[str, Finished] = OrderedDict()
        self._bytes = 0

    def add(self, finished: Finished) -> None:
        """Keep one more."""
        self._entries[finished.record.id] = finished
        self._bytes += finished.size
        while len(self._entries) > self._most_entries or self._bytes > self._most_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.size

    def get(self, execution_id: str) -> Finished | None:
        """The execution, if it is still here."""
        return self._entries.get(execution_id)
