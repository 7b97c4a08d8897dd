"""Every execution, wherever it is now: driven here, finished a moment ago, or in the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from executor_api.domain.execution import Event, Execution, Output
from executor_api.domain.output import assemble
from executor_api.errors import NotFoundError
from executor_api.service.drive import Drive
from executor_api.service.recent import Finished, Recent
from executor_api.service.store import ListFilter, Page, Store
from executor_api.service.timeline import Overhead


class Ledger:
    """Answers from the nearest place that knows."""

    def __init__(self, store: Store) -> None:
        self.drives: dict[str, Drive] = {}
        self._store = store
        self._recent = Recent()

    def settled(self, drive: Drive) -> None:
        """The drive has its outcome: from now on it is history."""
        record = drive.live.record
        self.drives.pop(record.id, None)
        self._recent.add(Finished(record, drive.live.whole_output(), drive.timeline.overhead()))

    async def record(self, execution_id: str) -> Execution:
        """The record as it is now, whoever's it is. Raises `NotFoundError`."""
        drive, finished = self.drives.get(execution_id), self._recent.get(execution_id)
        if drive is not None:
            return drive.live.record
        stored = finished.record if finished is not None else await self._store.get(execution_id)
        if stored is None:
            raise NotFoundError(f"there is no execution {execution_id[:64]!r}")
        return stored

    async def owned(self, tenant: str, execution_id: str) -> Execution:
        """The tenant's record. Raises `NotFoundError` for somebody else's, too."""
        record = await self.record(execution_id)
        if record.tenant != tenant:
            raise NotFoundError(f"there is no execution {execution_id[:64]!r}")
        return record

    async def wait(self, execution_id: str, seconds: float) -> Execution:
        """The record once it is finished, or as it is after so many seconds. Raises `NotFoundError`."""
        drive = self.drives.get(execution_id)
        if drive is None or seconds <= 0:
            return await self.record(execution_id)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await drive.live.finished.wait()
        return drive.live.record

    async def output(self, execution_id: str) -> Output:
        """What it printed so far."""
        drive, finished = self.drives.get(execution_id), self._recent.get(execution_id)
        if drive is not None:
            return await drive.live.output()
        if finished is not None and finished.output is not None:
            return finished.output
        return assemble(await self._store.events(execution_id))

    async def follow(self, tenant: str, execution_id: str, after: int) -> AsyncIterator[Event]:
        """Its events above ``after``, until it is finished. Raises `NotFoundError`."""
        await self.owned(tenant, execution_id)
        drive = self.drives.get(execution_id)
        if drive is not None:
            async for event in drive.live.follow(after):
                yield event
        else:
            for event in await self._store.events(execution_id, after):
                yield event

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
        drive = self.drives.get(record.id)
        return drive.live.record if drive is not None else record
