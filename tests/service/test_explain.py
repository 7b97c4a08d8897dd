"""Executions and pools in sentences: where it is, why, and what to do."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from typing import Any, cast

import pytest
from support.house import House, submission
from support.house import ended as finished
from support.pool_status import pool
from support.scripted import Fate, Script

from executor_api.domain.advice import ADVICE
from executor_api.domain.execution import Execution, Start, Timings
from executor_api.domain.explain import Surroundings, explain, pool_sentences
from executor_api.domain.history import Step
from executor_api.domain.outcome import Outcome, Reason, Status
from executor_api.domain.request import ExecutionRequest
from executor_api.errors import NotFoundError, UnavailableError
from executor_api.service.execution_service import ExecutionService
from executor_runner.protocol.shapes import GpuMemory

NOW = 1000.0
ALONE = Surroundings()
MEMORY = "2 sandboxes pending for 41 s: Insufficient memory"
QUEUED = Execution(
    id="x",
    tenant="default",
    request=ExecutionRequest(code="1"),
    status=Status.QUEUED,
    created_at=NOW - 2,
    timeout_seconds=60,
    template_digest="",
)


def ended(reason: Reason | None, message: str = "", **fields: Any) -> Execution:
    status = Status.SUCCEEDED if reason is None else Status.FAILED
    return replace(QUEUED, status=status, outcome=Outcome(status, reason, message), finished_at=NOW, **fields)


@pytest.mark.parametrize(
    ("execution", "around", "summary"),
    [
        (QUEUED, Surroundings(ahead=3), "It has waited for a slot for 2 s, behind 3 other executions."),
        (QUEUED, Surroundings(ahead=0), "It has waited for a slot for 2 s, and is next."),
        (QUEUED, ALONE, "It has waited for a slot for 2 s."),
        (
            replace(QUEUED, status=Status.STARTING),
            Surroundings(steps=[Step(Status.QUEUED, NOW - 2), Step(Status.STARTING, NOW - 1.5)]),
            "It was accepted 2 s ago, and for 1.5 s its sandbox has been sought or made.",
        ),
        (replace(QUEUED, status=Status.RUNNING, started_at=NOW - 1.5), ALONE, "It has run for 1.5 s of at most 60 s."),
        (ended(None, timings=Timings(total=5.8)), ALONE, "It succeeded after 5.8 ms."),
        (ended(Reason.EXIT_CODE, "exit code 7"), ALONE, "It failed after 2 s (exit_code): exit code 7."),
    ],
    ids=["queued", "next", "queued elsewhere", "starting", "running", "succeeded", "failed"],
)
def test_the_summary_says_where_it_is(execution: Execution, around: Surroundings, summary: str) -> None:
    """One sentence for each status."""
    assert explain(execution, around, NOW).summary == summary


def test_every_reason_has_advice() -> None:
    """A new reason can't be forgotten, and the advice is among the sentences."""
    assert set(ADVICE) == set(Reason)
    for reason in Reason:
        assert ADVICE[reason] in explain(ended(reason), ALONE, NOW).sentences


@pytest.mark.parametrize("status", [Status.QUEUED, Status.STARTING])
def test_a_pending_call_is_told_what_holds_up_its_pool(status: Status) -> None:
    """The pool's problems with their ages; once it runs, or long after it failed, they are not its own any more."""
    around = Surroundings(pool=pool(problems=(MEMORY,)))
    assert f"Its pool says: {MEMORY}" in explain(replace(QUEUED, status=status), around, NOW).sentences
    running = replace(QUEUED, status=Status.RUNNING, started_at=NOW)
    assert not explain(running, around, NOW).sentences
    assert f"Its pool says: {MEMORY}" in explain(ended(Reason.START_TIMEOUT), around, NOW).sentences
    assert f"Its pool says: {MEMORY}" not in explain(ended(Reason.START_TIMEOUT), around, NOW + 3600).sentences


def test_a_cold_call_is_told_why() -> None:
    """The backend's reason of then, while its sandbox is made and after."""
    reason = "the template changed 12 s ago, and its new sandboxes are not ready yet"
    execution = ended(None, start=Start.COLD, cold_reason=reason)
    assert explain(execution, ALONE, NOW).sentences == (f"A sandbox was made for it, because {reason}.",)
    starting = replace(QUEUED, status=Status.STARTING, cold_reason=reason)
    assert explain(starting, ALONE, NOW).sentences == (f"A sandbox is being made for it, because {reason}.",)


def test_the_longest_phase_is_named() -> None:
    """All phases that took any time, where most of it went, and the waits for a slot and for the pool by themselves."""
    timings = Timings(queue=4200, claim=2, run=30, collect=0.5, total=4240)
    around = Surroundings(steps=[Step(Status.QUEUED, NOW - 2), Step(Status.STARTING, NOW + 1)])
    assert explain(ended(None, start=Start.WARM, timings=timings), around, NOW).sentences == (
        "It got a sandbox made beforehand.",
        "It waited 3 s for a slot.",
        "It waited 1.2 s for a sandbox of the pool.",
        "Phases: queue 4.2 s, claim 2 ms, run 30 ms, collect 0.5 ms; most of it was queue.",
    )


def test_a_result_from_elsewhere_and_what_was_left_behind() -> None:
    """A copy of the result other than the first is named, and so are processes that outlived the call."""
    execution = ended(None, start=Start.REUSED, result_source="log")
    processes = {"left_behind": 3, "zombies": 1, "unkillable": 1}
    outcome = replace(execution.outcome, processes=processes)
    assert explain(replace(execution, outcome=outcome), ALONE, NOW).sentences == (
        "It ran in a sandbox that its tenant had used before.",
        "The connection to its sandbox was lost; its result was read from the pod's log.",
        "Processes it left behind: 3, 1 of which can't be ended (D state), so its sandbox serves nobody again.",
    )


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"after_bytes": 400 << 20, "leaked_bytes": 400 << 20}, "did not come back after its end: 400 MiB"),
        ({"after_bytes": None}, "driver of its GPU did not answer"),
        ({"after_bytes": 400 << 20, "uncertain": True}, "can't be told, because processes that may be another's"),
    ],
)
def test_gpu_memory_that_stays_is_told(found: dict[str, Any], said: str) -> None:
    """How much, or that nobody knows; nothing of memory that came back."""
    free: GpuMemory = {"devices": 1, "before_bytes": 0, "after_bytes": 0, "leaked_bytes": 0, "returned": True}
    outcome = Outcome(Status.SUCCEEDED, None, "", gpu=free)
    execution = replace(ended(None), outcome=outcome)
    assert not any("GPU" in sentence for sentence in explain(execution, ALONE, NOW).sentences)
    held = cast("GpuMemory", {**free, "returned": False, **found})
    execution = replace(execution, outcome=replace(outcome, gpu=held))
    assert sum(said in sentence for sentence in explain(execution, ALONE, NOW).sentences) == 1


def test_a_pool_in_sentences() -> None:
    """What it has, how claims went, how fast it fills, a recent change, and its problems."""
    status = pool(
        desired=10,
        ready=6,
        starting=2,
        taken=2,
        hits=3,
        waits=2,
        misses=1,
        conflicts=1,
        replacement_seconds=0.41,
        refill_per_second=6.2,
        changed_at=NOW - 12,
        problems=(MEMORY,),
    )
    assert pool_sentences(status, NOW) == (
        "6 of 10 sandboxes of template 'default' wait ready; 2 are being made, 2 are in use.",
        (
            "3 of 6 claims of this process found one waiting (50%), 2 waited for one, 1 got none; 1 met one that was "
            "taken by another or had died."
        ),
        "A new one is ready after 410 ms; 6.2 a second become ready while it fills.",
        "Its sandboxes changed 12 s ago; those of before are not used.",
        MEMORY,
    )
    assert len(pool_sentences(pool(), NOW)) == 1


async def test_a_queued_execution_knows_its_place(house: House) -> None:
    """The service tells who goes first; another tenant's execution does not exist."""
    gate = asyncio.Event()
    house.backend.script = lambda _id: Script(frames=[gate])
    service = await house.open(max_concurrency=1)
    await service.submit(submission())
    waiting = [await service.submit(submission()) for _ in range(3)]
    assert "behind 2 other executions" in (await service.explain("default", waiting[-1].id)).summary
    with pytest.raises(NotFoundError):
        await service.explain("other", waiting[-1].id)


async def told(service: ExecutionService, execution: Execution) -> str:
    """All that is said of an execution."""
    return " ".join((await service.explain(execution.tenant, execution.id)).sentences)


async def test_what_went_wrong_on_the_way_is_told_by_a_service_that_did_not_see_it(house: House) -> None:
    """A sandbox of the pool that was taken, and a backend that could not be asked: both, when, and why it went cold."""
    house.backend.waiting = [Script(posts=[Fate.TAKEN], start=Start.WARM)]
    house.backend.create_errors = [UnavailableError("the API server does not answer.")]
    service = await house.open()
    execution = await finished(service, submission())
    said = await told(service, execution)
    assert re.search(r"s after it was accepted, sandbox p-0 had taken another call, or was retired; another one", said)
    assert re.search(r"s after it was accepted, no sandbox could be had: the API server does not answer\.", said)
    assert "A sandbox was made for it, because nothing waits." in said
    await house.crash(service)
    assert await told(await house.open(), execution) == said


async def test_a_call_that_was_taken_up_again_says_so(house: House) -> None:
    """Waiting or running when its service stopped: the one that went on knows, and why it looked for no sandbox."""
    gate = asyncio.Event()
    house.backend.script = lambda _id: Script(frames=[gate])
    service = await house.open(max_concurrency=1)
    ran, waited = [await service.submit(submission()) for _ in range(2)]
    await house.events_on_disk(ran, 3)
    await house.crash(service)
    gate.set()
    service = await house.open(max_concurrency=1)
    for execution in (ran, waited):
        await service.wait(execution.id, 60)
        assert "its service had stopped or lost track of it, and it was taken up" in await told(service, execution)
    assert "made for it, because its service had stopped or lost track of it" in await told(service, waited)


async def test_a_call_that_waited_for_a_slot_says_for_how_long(house: House) -> None:
    """By its events, long after; the wait is not taken for one for the pool."""
    gate = asyncio.Event()
    house.backend.script = lambda _id: Script(frames=[gate])
    service = await house.open(max_concurrency=1)
    began = time.monotonic()
    _, waits = [await service.submit(submission()) for _ in range(2)]
    await asyncio.sleep(1.1)
    gate.set()
    execution = await service.wait(waits.id, 60)
    said = await told(service, execution)
    waited = re.search(r"It waited (\d+(\.\d+)?) s for a slot\.", said)
    assert waited is not None, said
    assert 1 < float(waited[1]) < time.monotonic() - began + 0.1  # rounded
    assert "for a sandbox of the pool" not in said
