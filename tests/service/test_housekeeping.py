"""Housekeeping: old executions are forgotten, sandboxes that nobody wants are deleted, wanted ones are not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from support.house import House, ended, submission
from support.scripted import Script, ScriptedSandbox

from executor_api.domain.outcome import Status
from executor_api.domain.template import Template
from executor_api.errors import NotFoundError


async def test_only_unwanted_sandboxes_are_deleted(house: House) -> None:
    """Unknown and finished executions lose their sandbox; a running one, or one whose template says so, keeps it."""
    stray = ScriptedSandbox("x-01arz3ndektsv4rrffq69g5fav", Script())
    templates = {"default": Template(name="default"), "kept": Template(name="kept", delete_finished=False)}
    service = await house.open(templates=templates, housekeeping_seconds=0.02)
    gate = asyncio.Event()
    kept = await ended(service, submission(template="kept"))
    house.backend.script = lambda _id: Script(frames=[gate])
    running = await service.submit(submission())
    house.backend.sandboxes[stray.name] = stray
    assert await asyncio.wait_for(house.backend.deleted.get(), 60) == stray.name
    assert {running.sandbox.name, kept.sandbox.name} <= set(house.backend.sandboxes)
    gate.set()
    assert (await service.wait(running.id, 60)).status is Status.SUCCEEDED
    assert await asyncio.wait_for(house.backend.deleted.get(), 60) == running.sandbox.name


async def test_old_executions_are_forgotten(house: House) -> None:
    """Beyond the age that is kept, a finished execution is gone from the disk."""
    service = await house.open()
    execution = await ended(service, submission())
    await service.stop(5)
    service = await house.open(keep_seconds=0, housekeeping_seconds=0.02)

    async def forgotten() -> None:
        try:
            while await service.get("default", execution.id):  # noqa: ASYNC110 - nothing tells of it but the record
                await asyncio.sleep(0.01)
        except NotFoundError:
            return

    await asyncio.wait_for(forgotten(), 60)


async def test_a_round_that_fails_is_not_the_last(house: House) -> None:
    """A backend that can't be asked, or has a bug, is asked again in the next round."""
    faults = [ZeroDivisionError("a bug"), ConnectionError("away")]
    collect = house.backend.collect_garbage
    rounds = asyncio.Semaphore(0)

    async def faulty(is_wanted: Callable[[str], Awaitable[bool]]) -> int:
        rounds.release()
        if faults:
            raise faults.pop()
        return await collect(is_wanted)

    house.backend.collect_garbage = faulty
    await house.open(housekeeping_seconds=0.01)
    for _ in range(3):
        await asyncio.wait_for(rounds.acquire(), 60)
    assert faults == []
