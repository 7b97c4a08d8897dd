"""When a new execution gets into the store: before its call can run anywhere, and in as few writes as that takes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.house import SECONDS, House, ended, submission
from support.scripted import Script, stdout

from executor_api.domain.execution import Event, Execution, Start
from executor_api.domain.outcome import Status
from executor_api.errors import UnavailableError
from executor_api.service.sqlite_store import SqliteStore
from executor_api.service.store import Created, ListFilter


class WatchedStore(SqliteStore):
    """Remembers what is written, and creates nothing before ``gate`` is open, or at all if it ``refuses``."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir / "executions.sqlite3")
        self.gate = asyncio.Event()
        self.gate.set()
        self.refuses = False
        self.asked = asyncio.Event()
        self.written: list[tuple[str, Execution]] = []

    async def create(self, execution: Execution, events: Sequence[Event] = ()) -> Created:
        """As told."""
        self.asked.set()
        await self.gate.wait()
        if self.refuses:
            raise UnavailableError("disk full", retry_after=7.0)
        self.written.append(("create", execution))
        return await super().create(execution, events)

    async def save(self, execution: Execution, events: Sequence[Event] = ()) -> None:
        """As it is."""
        self.written.append(("save", execution))
        await super().save(execution, events)


def warm() -> Script:
    return Script(frames=[stdout(b"x")], start=Start.WARM)


async def test_a_call_that_finds_its_sandbox_is_written_twice(house: House) -> None:
    """Once before it is sent, with all that leads to its sandbox, and once with its outcome."""
    store = WatchedStore(house.data_dir)
    house.backend.waiting = [warm()]
    service = await house.open(store)
    execution = await ended(service, submission())
    (first, sent), (second, done) = store.written
    assert (first, sent.dispatched, sent.sandbox.name) == ("create", True, "p-0")
    assert (second, done) == ("save", execution)
    await house.crash(service)
    assert await (await house.open()).get("default", execution.id) == execution


@pytest.mark.parametrize("key", [None, "k"], ids=["no key", "key"])
@pytest.mark.parametrize("waiting", [[warm()], []], ids=["warm", "cold"])
async def test_nothing_is_sent_or_made_before_the_record_is_there(
    house: House, waiting: list[Script], key: str | None
) -> None:
    """While the store takes its time, no waiting sandbox has the call, none is made, and the client has no id."""
    store = WatchedStore(house.data_dir)
    store.gate.clear()
    house.backend.waiting = list(waiting)
    service = await house.open(store)
    submitting = asyncio.ensure_future(service.submit(submission(key=key)))
    await store.asked.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not submitting.done()
    assert not any(sandbox.posts for sandbox in house.backend.made.values())
    assert not any(name.startswith("x-") for name in house.backend.made)
    store.gate.set()
    execution = await service.wait((await submitting).id, SECONDS)
    assert execution.status is Status.SUCCEEDED


async def test_a_call_that_waits_for_its_turn_is_recorded_meanwhile(house: House) -> None:
    """Its client is told, and a crash does not lose it."""
    gate = asyncio.Event()
    house.backend.script = lambda _id: Script(frames=[gate])
    service = await house.open(max_concurrency=1)
    await service.submit(submission())
    queued = await service.submit(submission())
    await house.crash(service)
    gate.set()
    assert (await (await house.open()).wait(queued.id, SECONDS)).status is Status.SUCCEEDED


@pytest.mark.parametrize("key", [None, "k"], ids=["no key", "key"])
@pytest.mark.parametrize("waiting", [[warm()], []], ids=["warm", "cold"])
async def test_a_call_that_cant_be_recorded_never_runs(house: House, waiting: list[Script], key: str | None) -> None:
    """Its client is told when to come back, what was reserved for it is given back, and the store knows nothing."""
    store = WatchedStore(house.data_dir)
    store.refuses = True
    house.backend.waiting = list(waiting)
    service = await house.open(store, max_concurrency=1, max_queue=0)
    with pytest.raises(UnavailableError, match="disk full") as refused:
        await service.submit(submission(key=key))
    assert refused.value.retry_after == 7.0
    store.refuses = False
    execution = await ended(service, submission(key=key))
    await service.stop(5)
    assert execution.status is Status.SUCCEEDED
    assert [sandbox.posts for sandbox in house.backend.made.values() if sandbox.calls] == [1]
    assert all(sandbox.dead for sandbox in house.backend.made.values())
    again = await house.open()
    assert [found.id for found in (await again.page("default", ListFilter(), 10, None)).executions] == [execution.id]


async def test_a_queued_call_that_cant_be_recorded_leaves_the_queue(house: House) -> None:
    """It does not run when its turn would have come."""
    gate, store = asyncio.Event(), WatchedStore(house.data_dir)
    house.backend.script = lambda _id: Script(frames=[gate])
    service = await house.open(store, max_concurrency=1)
    running = await service.submit(submission())
    store.refuses = True
    with pytest.raises(UnavailableError):
        await service.submit(submission())
    gate.set()
    await service.wait(running.id, SECONDS)
    await service.stop(5)
    assert len(house.backend.made) == 1
