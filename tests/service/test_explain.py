"""Executions and pools in sentences: where it is, why, and what to do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from support.house import House, submission
from support.pool_status import pool
from support.scripted import Script

from executor_api.domain.advice import ADVICE
from executor_api.domain.execution import Execution, Start, Timings
from executor_api.domain.explain import explain, pool_sentences
from executor_api.domain.outcome import Outcome, Reason, Status
from executor_api.domain.request import ExecutionRequest
from executor_api.errors import NotFoundError

NOW = 1000.0
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
    ("execution", "ahead", "summary"),
    [
        (QUEUED, 3, "It has waited for a slot for 2 s, behind 3 other executions."),
        (QUEUED, 0, "It has waited for a slot for 2 s, and is next."),
        (QUEUED, None, "It has waited for a slot for 2 s."),
        (
            replace(QUEUED, status=Status.STARTING),
            None,
            "It was accepted 2 s ago and its sandbox is being found or made.",
        ),
        (replace(QUEUED, status=Status.RUNNING, started_at=NOW - 1.5), None, "It has run for 1.5 s of at most 60 s."),
        (ended(None, timings=Timings(total=5.8)), None, "It succeeded after 5.8 ms."),
        (ended(Reason.EXIT_CODE, "exit code 7"), None, "It failed after 2 s (exit_code): exit code 7."),
    ],
    ids=["queued", "next", "queued elsewhere", "starting", "running", "succeeded", "failed"],
)
def test_the_summary_says_where_it_is(execution: Execution, ahead: int | None, summary: str) -> None:
    """One sentence for each status."""
    assert explain(execution, None, ahead, NOW).summary == summary


def test_every_reason_has_advice() -> None:
    """A new reason can't be forgotten, and the advice is among the sentences."""
    assert set(ADVICE) == set(Reason)
    for reason in Reason:
        assert ADVICE[reason] in explain(ended(reason), None, None, NOW).sentences


@pytest.mark.parametrize("status", [Status.QUEUED, Status.STARTING])
def test_a_pending_call_is_told_what_holds_up_its_pool(status: Status) -> None:
    """The pool's problems with their ages; once it runs they are not its own any more."""
    problems = pool(problems=(MEMORY,))
    assert f"Its pool says: {MEMORY}" in explain(replace(QUEUED, status=status), problems, None, NOW).sentences
    running = replace(QUEUED, status=Status.RUNNING, started_at=NOW)
    assert not explain(running, problems, None, NOW).sentences
    assert f"Its pool says: {MEMORY}" in explain(ended(Reason.START_TIMEOUT), problems, None, NOW).sentences


@pytest.mark.parametrize(
    ("changed_at", "more"),
    [
        (None, ""),
        (QUEUED.created_at - 12, " The sandboxes of template 'default' had changed 12 s before the call."),
        (QUEUED.created_at - 3600, ""),
        (QUEUED.created_at + 1, ""),
    ],
    ids=["not known", "just before", "long before", "after it"],
)
def test_a_cold_call_is_told_why(changed_at: float | None, more: str) -> None:
    """The backend's reason, and a change of the template shortly before the call."""
    execution = ended(None, start=Start.COLD, cold_reason="none was ready")
    sentences = explain(execution, pool(changed_at=changed_at), None, NOW).sentences
    assert sentences == (f"A sandbox was made for it, because none was ready.{more}",)


def test_the_longest_phase_is_named() -> None:
    """All phases that took any time, the wait by itself, and where most of the time went."""
    timings = Timings(queue=1200, claim=2, run=30, collect=0.5, total=1240)
    assert explain(ended(None, start=Start.WARM, timings=timings), None, None, NOW).sentences == (
        "It found a sandbox waiting.",
        "It waited 1.2 s for a slot or for a sandbox of the pool.",
        "Phases: queue 1.2 s, claim 2 ms, run 30 ms, collect 0.5 ms; most of it was queue.",
    )


def test_a_result_from_elsewhere_and_what_was_left_behind() -> None:
    """A copy of the result other than the first is named, and so are processes that outlived the call."""
    execution = ended(None, start=Start.REUSED, result_source="log")
    processes = {"left_behind": 3, "zombies": 1, "unkillable": 1}
    outcome = replace(execution.outcome, processes=processes)
    assert explain(replace(execution, outcome=outcome), None, None, NOW).sentences == (
        "It ran in a sandbox that its tenant had used before.",
        "The connection to its sandbox was lost; its result was read from the pod's log.",
        "Processes it left behind: 3, 1 of which can't be ended (D state), so its sandbox serves nobody again.",
    )


def test_a_pool_in_sentences() -> None:
    """What it has, how claims went, how fast it fills, a recent change, and its problems."""
    status = pool(
        desired=10,
        ready=6,
        starting=2,
        taken=2,
        hits=3,
        misses=1,
        conflicts=1,
        replacement_seconds=0.41,
        refill_per_second=6.2,
        changed_at=NOW - 12,
        problems=(MEMORY,),
    )
    assert pool_sentences(status, NOW) == (
        "6 of 10 sandboxes of template 'default' wait ready; 2 are being made, 2 are in use.",
        "3 of 4 calls to this process found one waiting (75%); 1 met one that was taken by another or had died.",
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
