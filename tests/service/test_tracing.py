"""What a collector gets of executions that meet with bad luck: nothing that was not so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import ParentBased, SamplingResult
from support.collector import Collector, Seen, tracing
from support.house import House, ended, submission
from support.reports import report
from support.scripted import Fate, Script, stdout

from executor_api.backends.base import LastWords, SandboxFailedError
from executor_api.domain.execution import Execution, Start
from executor_api.domain.outcome import Evidence, Reason, Status
from executor_api.domain.trace_context import TraceContext
from executor_api.service.execution_service import Submission

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
GONE = Evidence(Reason.NODE_LOST, "its node is gone")


@pytest.fixture
async def collector(house: House, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    async with tracing(monkeypatch) as (made, house.tracing):
        yield made


async def spans(collector: Collector, execution: Execution) -> tuple[Seen, list[Seen]]:
    """Those of an execution; each phase lies within the whole, and begins where the one before had ended or later."""
    top, below = await asyncio.to_thread(collector.tree, execution.id)
    until = top.start
    for span in below:
        assert until <= span.start <= span.end <= top.end
        assert span.trace_id == top.trace_id
        until = span.end
    return top, below


def names(below: list[Seen]) -> list[str]:
    """Of the phases; those that failed with their ``error.type``."""
    return [" ".join((span.name, *[span.attributes.get("error.type", "")] * span.failed)) for span in below]


async def test_a_second_sandbox_after_one_that_was_taken(house: House, collector: Collector) -> None:
    """Both claims and both dispatches are there, the first of them as failed."""
    house.backend.waiting = [Script(posts=[Fate.TAKEN], start=Start.WARM), Script(start=Start.WARM)]
    top, below = await spans(collector, await ended(await house.open(), submission()))
    assert names(below) == [
        *("queue", "claim", "record", "dispatch not_taken"),
        *("claim", "record", "dispatch", "run", "collect", "settle"),
    ]
    assert (top.failed, top.attributes["executor.sandbox"], top.attributes["executor.start"]) == (False, "p-1", "warm")


async def test_a_sandbox_that_never_started(house: House, collector: Collector) -> None:
    """Making it is where the time went, and what failed; there is no run."""
    refused = SandboxFailedError(Evidence(Reason.IMAGE_PULL, "no such image"))
    house.backend.script = lambda _id: Script(ready_error=refused)
    top, below = await spans(collector, await ended(await house.open(), submission()))
    assert names(below) == ["queue", "claim", "create image_pull", "settle"]
    assert (top.failed, top.attributes["error.type"]) == (True, "image_pull")
    assert below[2].attributes["executor.create_ms"] == 1.0


async def test_a_call_that_was_cancelled_in_the_queue(house: House, collector: Collector) -> None:
    """It only waited, and that is no failure."""
    gate = asyncio.Event()
    house.backend.script = lambda _id: Script(frames=[gate])
    service = await house.open(max_concurrency=1)
    first = await service.submit(submission())
    waiting = await service.submit(submission())
    await service.cancel("default", waiting.id)
    top, below = await spans(collector, await service.wait(waiting.id, 60))
    gate.set()
    assert names(below) == ["queue", "settle"]
    assert (top.failed, top.attributes["executor.status"]) == (False, "cancelled")
    assert "executor.start" not in top.attributes
    await spans(collector, await service.wait(first.id, 60))


async def test_a_sandbox_that_died_without_a_word(house: House, collector: Collector) -> None:
    """The run has no end that anybody saw, and says so."""
    script = Script(frames=[stdout(b"x" * 100)], dies_at=60, last_words=LastWords(GONE))
    house.backend.script = lambda _id: script
    top, below = await spans(collector, await ended(await house.open(), submission()))
    assert names(below) == ["queue", "claim", "create", "record", "dispatch", "run node_lost", "settle"]
    assert below[-2].attributes["executor.end_observed"] is False
    assert top.attributes["executor.result_source"] == "evidence"


async def test_last_words_say_how_long_it_ran(house: House, collector: Collector) -> None:
    """The report was found in what the sandbox left: the run ended when that says, not when it was found."""
    house.backend.script = lambda id_: Script(
        frames=[stdout(b"x" * 100)], dies_at=60, last_words=LastWords(GONE, report(id_, run_ms=0.01), source="status")
    )
    execution = await ended(await house.open(), submission())
    top, below = await spans(collector, execution)
    assert names(below)[-3:] == ["run", "collect", "settle"]
    assert below[-3].end - below[-3].start == pytest.approx(0.00001, abs=2e-6)
    assert top.attributes["executor.result_source"] == "status"


@pytest.mark.parametrize("parent", [PARENT, None])
async def test_a_call_that_another_life_settled(house: House, collector: Collector, parent: str | None) -> None:
    """One trace, with what the first life saw, the run across the restart, and the id that the code was told."""
    gate = asyncio.Event()
    house.backend.script = lambda _id: Script(frames=[stdout(b"1"), gate])
    trace = TraceContext(parent, "a=1") if parent is not None else None
    service = await house.open()
    execution = await service.submit(Submission(request=submission().request, trace=trace))
    await house.events_on_disk(execution, 4)
    await house.crash(service)
    service = await house.open()
    gate.set()
    finished = await service.wait(execution.id, 60)
    top, below = await spans(collector, finished)
    assert names(below) == ["queue", "claim", "create", "record", "dispatch", "run", "collect", "settle"]
    assert top.events == ("taken_up",)
    (call,) = house.sandbox(execution).calls
    assert call["env"]["TRACEPARENT"] == f"00-{top.trace_id}-{top.span_id}-{'01' if parent else '03'}"
    assert (top.parent_id, top.state) == ((PARENT.split("-")[2], "a=1") if parent else ("", ""))
    assert finished.passed == ()
    assert len(collector.by_trace()) == 1


async def test_a_waiting_call_that_another_life_ran(house: House, collector: Collector) -> None:
    """The first life stored only that it was accepted: the whole begins then, its phases when it was taken up."""
    gate = asyncio.Event()
    house.backend.script = lambda _id: Script(frames=[gate])
    service = await house.open(max_concurrency=1)
    first, second = [await service.submit(submission()) for _ in range(2)]
    await house.events_on_disk(second, 1)
    await house.crash(service)
    service = await house.open()
    gate.set()
    for execution in (first, second):
        assert (await service.wait(execution.id, 60)).status is Status.SUCCEEDED
    top, below = await spans(collector, second)
    assert names(below) == ["queue", "claim", "create", "record", "dispatch", "run", "collect", "settle"]
    assert top.events == ("taken_up",)
    assert top.start == pytest.approx(second.created_at, abs=1e-3)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the spans at which the SDK's sampler fails."""
    sound, at = ParentBased.should_sample, set[str]()

    def should_sample(self: ParentBased, context: Any, trace_id: int, name: str, *rest: Any) -> SamplingResult:
        if name in at:
            raise RuntimeError(f"no decision on {name}")
        return sound(self, context, trace_id, name, *rest)

    monkeypatch.setattr(ParentBased, "should_sample", should_sample)
    return at


async def test_a_sampler_that_fails_costs_a_call_its_trace_only(
    house: House, collector: Collector, failing: set[str]
) -> None:
    """The call succeeds and its code is told the caller's place; the next one is traced as ever."""
    failing.add("execute_tool plot")
    service = await house.open()
    request = submission(labels={"gen_ai.tool.name": "plot"}).request
    unseen = await ended(service, Submission(request=request, trace=TraceContext(PARENT, "a=1")))
    _, below = await spans(collector, await ended(service, submission()))
    assert (unseen.status, len(below), len(collector.by_trace())) == (Status.SUCCEEDED, 8, 1)
    (call,) = house.sandbox(unseen).calls
    assert (call["env"]["TRACEPARENT"], call["env"]["TRACESTATE"]) == (PARENT, "a=1")


async def test_a_sampler_that_fails_at_a_phase_leaves_the_call(
    house: House, collector: Collector, failing: set[str]
) -> None:
    """Its span is there and has an end, with the phases before that one."""
    failing.add("record")
    top, below = await spans(collector, await ended(await house.open(), submission()))
    assert (names(below), top.failed) == (["queue", "claim", "create"], False)


async def test_a_trace_that_its_caller_does_not_record(house: House, collector: Collector) -> None:
    """Its flag says so: no span comes of it, and the code is told the same; a later call is recorded as ever."""
    service = await house.open()
    quiet = TraceContext(PARENT[:-1] + "0")
    unseen = await service.submit(Submission(request=submission().request, trace=quiet))
    await service.wait(unseen.id, 60)
    await spans(collector, await ended(service, submission()))
    assert quiet.trace_id not in collector.by_trace()
    (call,) = house.sandbox(unseen).calls
    told: Any = call["env"]["TRACEPARENT"].split("-")
    assert (told[1], told[3]) == (quiet.trace_id, "00")
