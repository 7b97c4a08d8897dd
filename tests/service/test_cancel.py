"""Cancelling in every status: what never ran ends at once, what runs ends by its own report."""

from __future__ import annotations

import asyncio

import pytest
from support.house import House, submission
from support.scripted import LOST, Fate, Script, stdout

from executor_api.backends.base import LastWords
from executor_api.domain.execution import EventKind, Execution
from executor_api.domain.outcome import Evidence, Reason, Status
from executor_api.errors import NotFoundError
from executor_api.service.execution_service import ExecutionService


async def running(service: ExecutionService, execution: Execution) -> None:
    """Wait until output has come, so that the call certainly runs."""
    async for event in service.events("default", execution.id):
        if event.kind is EventKind.STDOUT:
            return


async def test_a_queued_execution_ends_at_once_and_never_starts(house: House) -> None:
    """No sandbox is made for it, and the place in the queue is free again."""
    gate = asyncio.Event()
    house.backend.script = lambda _id: Script(frames=[stdout(b"first"), gate])
    service = await house.open(max_concurrency=1, max_queue=1)
    first, second = await service.submit(submission()), await service.submit(submission())
    await service.cancel("default", second.id)
    second = await service.wait(second.id, 60)
    assert (second.status, second.outcome.reason, second.dispatched) == (Status.CANCELLED, Reason.CANCELLED, False)
    assert second.cancel_requested
    third = await service.submit(submission())
    gate.set()
    assert [(await service.wait(e.id, 60)).status for e in (first, third)] == [Status.SUCCEEDED] * 2
    assert len(house.backend.made) == 2


async def test_a_starting_execution_ends_and_its_sandbox_is_released(house: House) -> None:
    """A sandbox that is not ready yet is not waited for; it gets no call and is given back."""
    house.backend.script = lambda _id: Script(ready=asyncio.Event())
    service = await house.open()
    execution = await service.submit(submission())
    await anext(event async for event in service.events("default", execution.id) if b"starting" in event.data)
    await service.cancel("default", execution.id)
    execution = await service.wait(execution.id, 60)
    assert (execution.status, execution.outcome.message) == (Status.CANCELLED, "cancelled before it ran")
    await service.stop(5)
    sandbox = house.sandbox(execution)
    assert (sandbox.posts, sandbox.releases) == (0, 1)


@pytest.mark.parametrize("lost", [0, 3], ids=["heard at once", "heard at the fourth time"])
async def test_a_running_call_ends_by_its_report(house: House, lost: int) -> None:
    """The runner is asked until it has heard; what was printed until then is kept."""
    house.backend.script = lambda _id: Script(frames=[stdout(b"so far"), asyncio.Event()], cancels_lost=lost)
    service = await house.open()
    execution = await service.submit(submission())
    await running(service, execution)
    asked = await service.cancel("default", execution.id)
    assert asked.cancel_requested
    execution = await service.wait(execution.id, 60)
    assert (execution.status, execution.result_source, execution.outcome.signal) == (
        Status.CANCELLED,
        "http",
        "SIGTERM",
    )
    assert (await service.output(execution.id)).stdout == b"so far"
    assert house.sandbox(execution).cancels == lost + 1


async def test_a_call_that_finished_first_stays_finished(house: House) -> None:
    """A cancel that comes late changes nothing, whether the runner or the record has finished already."""
    gate = asyncio.Event()
    house.backend.script = lambda _id: Script(frames=[stdout(b"x"), gate], deaf_to_cancel=True)
    service = await house.open()
    execution = await service.submit(submission())
    await running(service, execution)
    await service.cancel("default", execution.id)
    gate.set()
    finished = await service.wait(execution.id, 60)
    assert (finished.status, finished.cancel_requested) == (Status.SUCCEEDED, True)
    assert await service.cancel("default", execution.id) == finished


async def test_a_sandbox_that_is_gone_when_cancelled_is_a_cancelled_call(house: House) -> None:
    """Where nothing better is known than that the sandbox is gone, the cancel explains it; better evidence wins."""
    service = await house.open()
    for evidence, status in ((LOST, Status.CANCELLED), (Evidence(Reason.EVICTED, "disk"), Status.FAILED)):
        script = Script(frames=[stdout(b"x"), asyncio.Event()], cancels_lost=99, last_words=LastWords(evidence))
        house.backend.script = lambda _id, script=script: script
        execution = await service.submit(submission())
        await running(service, execution)
        sandbox = house.sandbox(execution)
        sandbox.vanish()
        await service.cancel("default", execution.id)
        execution = await service.wait(execution.id, 60)
        assert execution.status is status


async def test_cancelling_while_the_dispatch_is_unsure_ends_the_call(house: House) -> None:
    """A call whose dispatch is being repeated is still cancelled, once it has arrived."""
    posts = [Fate.LOST, Fate.LOST]
    house.backend.script = lambda _id: Script(frames=[stdout(b"x"), asyncio.Event()], posts=posts)
    service = await house.open()
    execution = await service.submit(submission())
    async for event in service.events("default", execution.id):
        if b"starting" in event.data:
            break
    await service.cancel("default", execution.id)
    assert (await service.wait(execution.id, 60)).status is Status.CANCELLED


async def test_cancelling_twice_asks_once(house: House) -> None:
    """Cancel is idempotent, also from several clients at the same time."""
    house.backend.script = lambda _id: Script(frames=[stdout(b"x"), asyncio.Event()])
    service = await house.open()
    execution = await service.submit(submission())
    await running(service, execution)
    await asyncio.gather(*(service.cancel("default", execution.id) for _ in range(5)))
    assert (await service.wait(execution.id, 60)).status is Status.CANCELLED
    assert house.sandbox(execution).cancels == 1


async def test_nobody_cancels_for_somebody_else(house: House) -> None:
    """Another tenant's execution is as good as none."""
    house.backend.script = lambda _id: Script(frames=[asyncio.Event()])
    service = await house.open()
    execution = await service.submit(submission(tenant="a"))
    with pytest.raises(NotFoundError):
        await service.cancel("b", execution.id)
    assert not (await service.get("a", execution.id)).cancel_requested
