"""Calls that find a sandbox waiting, and what becomes of those that don't."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.house import House, ended, submission
from support.scripted import LOST, Fate, Script, stdout

from executor_api.backends.base import LastWords, SandboxFailedError
from executor_api.domain.execution import Start
from executor_api.domain.outcome import Evidence, Reason, Status
from executor_api.domain.request import Resources
from executor_api.errors import UnavailableError

OURS = [stdout(b"ours\n")]
GPU = {"devices": 1, "before_bytes": 1, "after_bytes": 1, "leaked_bytes": 0}


async def test_a_waiting_sandbox_takes_the_call(house: House) -> None:
    """Nothing is made for it, and the record names the sandbox that waited."""
    house.backend.waiting = [Script(frames=OURS, start=Start.WARM)]
    service = await house.open()
    execution = await ended(service, submission())
    assert (execution.status, execution.start, execution.cold_reason) == (Status.SUCCEEDED, Start.WARM, None)
    assert (execution.sandbox.name, list(house.backend.made)) == ("p-0", ["p-0"])


async def test_a_miss_makes_a_sandbox_and_says_why(house: House) -> None:
    """The record has the backend's reason."""
    service = await house.open()
    execution = await ended(service, submission())
    assert (execution.start, execution.cold_reason) == (Start.COLD, "nothing waits")


async def test_a_sandbox_that_does_not_take_the_call_costs_another_try(house: House) -> None:
    """The next that waits runs it, once, without losing its place; the one that is somebody else's is left alone."""
    taken = Script(posts=[Fate.TAKEN], start=Start.WARM)
    house.backend.waiting = [taken, Script(frames=OURS, start=Start.WARM)]
    service = await house.open()
    execution = await ended(service, submission())
    assert (execution.status, execution.sandbox.name) == (Status.SUCCEEDED, "p-1")
    assert ((await service.output(execution.id)).stdout, house.backend.made["p-0"].dead) == (b"ours\n", False)
    assert house.backend.claimed == [execution.id] * 2
    first, again = house.backend.claimed_since
    assert first == again > 0


@pytest.mark.parametrize(("start", "tries"), [(Start.WARM, 2), (Start.REUSED, 1)])
async def test_a_sandbox_that_left_anothers_report_never_had_the_call(house: House, start: Start, tries: int) -> None:
    """Until then nobody knew whether the call had arrived; where calls may follow each other, nobody knows it still."""
    theirs = Script(posts=[Fate.LOST], start=start, last_words=LastWords(LOST, holder="another"))
    house.backend.waiting = [theirs, Script(frames=OURS, start=Start.WARM)]
    service = await house.open()
    call = asyncio.ensure_future(ended(service, submission()))
    while "p-0" not in house.backend.made or not house.backend.made["p-0"].posts:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0)
    house.backend.made["p-0"].vanish()
    execution = await call
    assert (execution.status is Status.SUCCEEDED, len(house.backend.made)) == (tries == 2, tries)
    assert house.backend.made["p-0"].releases == 0


async def test_after_many_refusals_a_call_has_a_sandbox_made(house: House) -> None:
    """A pool whose sandboxes all turn out to be taken keeps nobody from being served."""
    house.backend.waiting = [Script(posts=[Fate.TAKEN], start=Start.WARM) for _ in range(10)]
    service = await house.open()
    execution = await ended(service, submission())
    assert (execution.status, execution.start) == (Status.SUCCEEDED, Start.COLD)
    assert ("8 waiting sandboxes" in execution.cold_reason, len(house.backend.waiting)) == (True, 2)


async def test_a_call_that_was_refused_and_then_can_not_start_touches_nobody_elses_sandbox(house: House) -> None:
    """Its failure cleans up what was made for it, not the sandbox in which somebody else's call runs."""
    house.backend.waiting = [Script(posts=[Fate.TAKEN], start=Start.WARM)]
    house.backend.script = lambda _id: Script(ready_error=SandboxFailedError(Evidence(Reason.UNSCHEDULABLE, "full")))
    service = await house.open()
    execution = await ended(service, submission())
    assert execution.outcome.reason is Reason.UNSCHEDULABLE
    assert execution.sandbox.name == f"x-{execution.id.lower()}"
    assert not house.backend.made["p-0"].dead


@pytest.mark.parametrize(
    ("report", "sound"),
    [
        ({}, True),
        ({"processes": {"left_behind": 0, "zombies": 0, "unkillable": 1}}, False),
        ({"gpu": {**GPU, "returned": True}}, True),
        ({"gpu": {**GPU, "returned": False}}, False),
    ],
    ids=["clean", "unkillable", "gpu", "gpu-leak"],
)
async def test_only_a_sound_sandbox_is_given_back_as_such(house: House, report: dict[str, Any], sound: bool) -> None:  # noqa: FBT001 - pytest gives it by position
    """A process that can't be killed, or memory of a GPU that stays, makes a sandbox unfit for another call."""
    house.backend.waiting = [Script(report=report, start=Start.WARM)]
    service = await house.open()
    await ended(service, submission())
    await service.stop(5)
    assert house.backend.made["p-0"].sound is sound
    assert house.backend.made["p-0"].leaky is ("gpu" in report and not sound)


async def test_what_waits_serves_while_nothing_else_can(house: House) -> None:
    """A backend that can make no sandbox refuses the calls for which none waits, and those that ask for another."""
    service = await house.open()
    house.backend.problems = ("the API server is away",)
    house.backend.waiting = [Script(frames=OURS, start=Start.WARM)]
    with pytest.raises(UnavailableError, match="away"):
        await service.submit(submission(resources=Resources(cpu="2")))
    served = await ended(service, submission())
    assert (served.status, served.start) == (Status.SUCCEEDED, Start.WARM)
    with pytest.raises(UnavailableError, match="away"):
        await service.submit(submission())
    assert service.health().problems == ("the API server is away",)
