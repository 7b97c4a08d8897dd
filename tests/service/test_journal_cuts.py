"""Connections that break at every byte of the journal, or before it: the call runs once, its output is whole."""

from __future__ import annotations

import asyncio

import pytest
from support.house import House, ended, history, submission
from support.scripted import Fate, Script, ScriptedSandbox, stderr, stdout

from executor_api.backends.base import LastWords
from executor_api.domain.execution import EventKind, Execution
from executor_api.domain.outcome import Evidence, Reason, Status
from executor_api.service.execution_service import ExecutionService

FRAMES = [stdout(b"one"), stderr(b"two"), stdout(b"three" * 5)]


async def whole_journal() -> int:
    """Length of the journal of these frames, its report included."""
    sandbox = ScriptedSandbox("x-probe", Script(frames=list(FRAMES)))
    call = b'{"execution_id": "' + b"0" * 26 + b'"}'
    return sum([len(data) async for data in sandbox.dispatch(call)])


async def check_whole(house: House, service: ExecutionService, execution: Execution) -> None:
    assert execution.status is Status.SUCCEEDED, execution
    assert len(house.sandbox(execution).calls) == 1
    output = await service.output(execution.id)
    assert (output.stdout, output.stderr) == (b"one" + b"three" * 5, b"two")
    kinds = [event.kind for event in await history(service, execution)]
    assert kinds == [*[EventKind.STATUS] * 3, EventKind.STDOUT, EventKind.STDERR, EventKind.STDOUT, EventKind.FINISHED]


@pytest.mark.parametrize("quietly", [True, False], ids=["ends", "breaks"])
async def test_every_cut_keeps_the_output_exactly_once(house: House, *, quietly: bool) -> None:
    """Whatever the offset at which the first connection ends or breaks, nothing is lost, doubled or run twice."""
    cuts = iter(range(await whole_journal()))
    house.backend.script = lambda _id: Script(frames=FRAMES, cuts=[next(cuts)], cut_quietly=quietly)
    service = await house.open(max_concurrency=400)
    executions = await asyncio.gather(*(ended(service, submission()) for _ in range(await whole_journal())))
    for execution in executions:
        await check_whole(house, service, execution)
        assert house.sandbox(execution).connections == 2


async def test_many_cuts_in_one_call(house: House) -> None:
    """A connection that breaks every few bytes still brings the whole journal, as long as frames come through."""
    offsets = [0, 30, 33, 41, 41, 45, 55, 70, 85]
    house.backend.script = lambda _id: Script(frames=FRAMES, cuts=offsets.copy(), chunk=3)
    service = await house.open()
    execution = await ended(service, submission())
    await check_whole(house, service, execution)
    assert house.sandbox(execution).connections == len(offsets) + 1


@pytest.mark.parametrize(
    "posts",
    [[Fate.LOST], [Fate.ANSWER_LOST], [Fate.LOST, Fate.LOST, Fate.ANSWER_LOST]],
    ids=["request lost", "answer lost", "both"],
)
async def test_a_lost_dispatch_is_repeated_and_runs_once(house: House, posts: list[Fate]) -> None:
    """Whether the call or only the answer was lost, it is sent again, and the runner sees to it that it runs once."""
    house.backend.script = lambda _id: Script(frames=FRAMES, posts=posts.copy())
    service = await house.open()
    await check_whole(house, service, await ended(service, submission()))


@pytest.mark.parametrize(
    "script",
    [Script(posts=[Fate.ACCEPTED_BEFORE]), Script(frames=[b"\x00junk, not a frame" * 3])],
    ids=["claimed by somebody else", "no journal"],
)
async def test_a_runner_that_is_not_ours_is_given_up(house: House, script: Script) -> None:
    """A sandbox that has somebody else's call, or talks nonsense, ends as the backend can tell, never as a success."""
    script.last_words = LastWords(Evidence(Reason.NODE_LOST, "the node is gone"))
    house.backend.script = lambda _id: script
    execution = await ended(await house.open(), submission())
    assert (execution.status, execution.outcome.reason) == (Status.FAILED, Reason.NODE_LOST)
    assert execution.result_source == "evidence"


async def test_a_report_about_another_execution_is_refused(house: House) -> None:
    """A success that names another execution settles nothing."""
    house.backend.script = lambda _id: Script(report={"execution_id": "somebody else"})
    execution = await ended(await house.open(), submission())
    assert (execution.status, execution.outcome.reason) == (Status.FAILED, Reason.SANDBOX_LOST)
