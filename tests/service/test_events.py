"""Events: whoever reads them, when and from where, reads the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from support.house import House, ended, history, submission
from support.scripted import Script, stdout

from executor_api.domain.execution import Event, EventKind
from executor_api.domain.outcome import Status
from executor_api.errors import NotFoundError

LINES = [b"line %d\n" % n for n in range(40)]


async def test_followers_and_readers_see_the_same(house: House) -> None:
    """Live from the start, live from the middle, replayed from memory and from disk: one sequence."""
    gates = [asyncio.Event() for _ in range(4)]
    frames = [item for n in range(4) for item in (*map(stdout, LINES[n * 10 : n * 10 + 10]), gates[n])]
    house.backend.script = lambda _id: Script(frames=frames, chunk=50)
    service = await house.open()
    execution = await service.submit(submission())
    followers = [asyncio.ensure_future(history(service, execution))]
    for gate in gates:
        stored = await house.events_on_disk(execution, 13 if gate is gates[0] else 0)
        followers += [asyncio.ensure_future(history(service, execution, after)) for after in (0, 5, len(stored))]
        gate.set()
    full, *others = await asyncio.gather(*followers)
    assert [event.number for event in full] == list(range(1, 45))
    assert [event.data for event in full if event.kind is EventKind.STDOUT] == LINES
    for events in others:
        assert events == full[-len(events) :]
    for after in range(0, 50, 7):
        assert await history(service, execution, after) == full[after:]
    await house.crash(service)
    assert await history(await house.open(), execution) == full


async def test_output_of_a_running_call_is_on_disk_soon(house: House) -> None:
    """A crash keeps what was printed: the store has it while the call still runs, without a byte more being printed."""
    house.backend.script = lambda _id: Script(frames=[stdout(b"so far"), asyncio.Event()])
    service = await house.open()
    execution = await service.submit(submission())
    events = await asyncio.wait_for(house.events_on_disk(execution, 4), 60)
    assert (events[3].kind, events[3].data) == (EventKind.STDOUT, b"so far")
    assert (await service.get("default", execution.id)).status is Status.RUNNING
    assert (await service.output(execution.id)).stdout == b"so far"


async def test_what_a_follower_saw_is_on_disk(house: House) -> None:
    """A crash right after an event was shown can't give its number to another one."""
    house.backend.script = lambda _id: Script(frames=[stdout(b"seen"), asyncio.Event()])
    service = await house.open()
    execution = await service.submit(submission())
    async with aclosing(service.events("default", execution.id)) as events:
        seen = [event async for event in until(EventKind.STDOUT, events)]
    await house.crash(service)
    assert await house.events_on_disk(execution, len(seen)) == seen


async def until(kind: EventKind, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    async for event in events:
        yield event
        if event.kind is kind:
            return


async def test_much_output_is_stored_while_it_comes(house: House) -> None:
    """More than is held unstored at once still arrives whole and in order."""
    pieces = [bytes([n]) * 40_000 for n in range(20)]
    house.backend.script = lambda _id: Script(frames=[stdout(piece) for piece in pieces], chunk=30_000)
    service = await house.open()
    execution = await ended(service, submission())
    assert (await service.output(execution.id)).stdout == b"".join(pieces)
    assert [e.data for e in await history(service, execution) if e.kind is EventKind.STDOUT] == pieces


async def test_finished_is_seen_only_once_the_record_has_its_outcome(house: House) -> None:
    """Whoever reads FINISHED and then the record finds it finished."""
    service = await house.open()
    for _ in range(20):
        execution = await service.submit(submission())
        async for event in service.events("default", execution.id):
            if event.kind is EventKind.FINISHED:
                assert (await service.get("default", execution.id)).status.finished


async def test_nobody_reads_what_is_not_his_or_not_there(house: House) -> None:
    """Another tenant's execution and an unknown one are refused at the first step."""
    service = await house.open()
    execution = await service.submit(submission(tenant="a"))
    for tenant, execution_id in (("b", execution.id), ("a", "01ARZ3NDEKTSV4RRFFQ69G5FAV")):
        with pytest.raises(NotFoundError):
            await anext(service.events(tenant, execution_id))
        with pytest.raises(NotFoundError):
            await service.get(tenant, execution_id)
    with pytest.raises(NotFoundError):
        await service.wait("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1)


async def test_waiting_ends_with_the_time_and_the_call_goes_on(house: House) -> None:
    """A wait that runs out returns the record as it is, and leaves the call alone."""
    gate = asyncio.Event()
    house.backend.script = lambda _id: Script(frames=[gate])
    service = await house.open()
    execution = await service.submit(submission())
    for seconds in (0, 0.01):
        assert not (await service.wait(execution.id, seconds)).status.finished
    gate.set()
    assert (await service.wait(execution.id, 60)).status is Status.SUCCEEDED
