"""The spans of a finished execution: what was seen of it, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from executor_api.domain.execution import Execution, SandboxDetails, Start, Timings
from executor_api.domain.outcome import Outcome, Reason, Status
from executor_api.domain.passage import Passage, Point
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.spans import NOT_TAKEN, Tree, tree

WARM = ((Point.ARRIVED, 0.0), (Point.ACCEPTED, 1.0), (Point.ADMITTED, 2.0), (Point.READY, 3.0), (Point.DISPATCHED, 4.0))
SEEN = (*WARM, (Point.RUNNING, 5.0), (Point.REPORTED, 9.0), (Point.SETTLED, 9.5), (Point.FINISHED, 10.0))
COLD = (*WARM[:3], (Point.CREATING, 2.5), *WARM[3:], *SEEN[5:])


def execution(
    status: Status = Status.SUCCEEDED, reason: Reason | None = None, timings: Timings | None = None, **fields: Any
) -> Execution:
    """A finished one; what it passed began at 0."""
    base: dict[str, Any] = {
        "id": "01JD0000000000000000000001",
        "tenant": "t",
        "request": ExecutionRequest(code="print('secret code')", stdin="secret input", env={"KEY": "secret value"}),
        "created_at": 0.0,
        "timeout_seconds": 60.0,
        "template_digest": "d",
        "finished_at": 9.5,
        "start": Start.WARM,
        "result_source": "http",
        "timings": timings or Timings(run=3000.0, collect=500.0),
        "outcome": Outcome(status, reason, "a secret message", exit_code=0, value_json='"secret value"'),
    }
    return Execution(**base | {"status": status} | fields)


def shape(found: Tree) -> list[tuple[str, float, float]]:
    """The phases with their times."""
    return [(span.name, span.start, span.end) for span in found.phases]


def test_a_warm_call() -> None:
    """Phases follow each other; the run is as long as the runner measured, what it did then ends with its report."""
    found = tree(execution(), SEEN)
    assert (found.root.name, found.root.start, found.root.end) == ("execute_tool python", 0.0, 10.0)
    assert shape(found) == [
        ("queue", 1.0, 2.0),
        ("claim", 2.0, 3.0),
        ("record", 3.0, 4.0),
        ("dispatch", 4.0, 5.0),
        ("run", 5.0, 8.0),
        ("collect", 8.0, 9.0),
        ("settle", 9.0, 10.0),
    ]
    assert not any(span.error for span in (found.root, *found.phases))


def test_a_cold_call_tells_how_its_sandbox_was_made() -> None:
    """Making it is a span of its own, with the backend's figures."""
    timings = Timings(run=3000.0, collect=500.0, create=100.0, schedule=50.0)
    found = tree(execution(timings=timings, start=Start.COLD, cold_reason="the pool is empty"), COLD)
    assert shape(found)[1:4] == [("claim", 2.0, 2.5), ("create", 2.5, 3.0), ("record", 3.0, 4.0)]
    assert found.phases[2].attributes == {"executor.create_ms": 100.0, "executor.schedule_ms": 50.0}
    assert found.root.attributes["executor.cold_reason"] == "the pool is empty"


def test_a_start_that_was_seen_late() -> None:
    """Start and report read at once: the run was over by then, and had not begun before it was dispatched."""
    late = (*WARM, (Point.RUNNING, 8.9), *SEEN[6:])
    assert shape(tree(execution(), late))[3:6] == [
        ("dispatch", 4.0, 5.5),
        ("run", 5.5, 8.5),
        ("collect", 8.5, 9.0),
    ]
    longer = tree(execution(timings=Timings(run=30_000.0, collect=0.0)), late)
    assert shape(longer)[3:6] == [("dispatch", 4.0, 4.0), ("run", 4.0, 9.0), ("collect", 9.0, 9.0)]


@pytest.mark.parametrize(
    ("passed", "blamed"),
    [
        (WARM[:2], "queue"),
        (WARM[:3], "claim"),
        (COLD[:4], "create"),
        (WARM, "dispatch"),
        ((*WARM, (Point.RUNNING, 5.0)), "run"),
    ],
)
def test_a_failure_is_blamed_on_the_phase_it_came_in(passed: Passage, blamed: str) -> None:
    """The phase lasts until the outcome is known, and has its reason; those before did not fail."""
    lost = execution(Status.FAILED, Reason.SANDBOX_LOST, Timings(), result_source="evidence")
    found = tree(lost, (*passed, (Point.SETTLED, 9.5), (Point.FINISHED, 10.0)))
    assert [(span.name, span.end, span.error) for span in found.phases[-2:]] == [
        (blamed, 9.5, "sandbox_lost"),
        ("settle", 10.0, ""),
    ]
    assert not any(span.error for span in found.phases[:-2])
    assert found.root.error == "sandbox_lost"


def test_a_run_without_a_report_says_that_nobody_saw_its_end() -> None:
    """It lasts until the service learned of its loss, and says so."""
    lost = execution(Status.FAILED, Reason.NODE_LOST, Timings(), result_source="evidence")
    found = tree(lost, (*SEEN[:6], *SEEN[7:]))
    assert shape(found)[-2:] == [("run", 5.0, 9.5), ("settle", 9.5, 10.0)]
    assert found.phases[-2].attributes == {"executor.end_observed": False}


def test_a_report_that_the_sandbox_left_behind() -> None:
    """The run took what it says; from there until it was found there is no span."""
    found = tree(execution(result_source="status"), (*SEEN[:6], (Point.SETTLED, 20.0), (Point.FINISHED, 20.5)))
    assert shape(found)[-3:] == [("run", 5.0, 8.0), ("collect", 8.0, 8.5), ("settle", 20.0, 20.5)]


def test_a_sandbox_that_did_not_take_the_call() -> None:
    """Both attempts are there; the first dispatch failed, the execution did not."""
    again = (Point.ADMITTED, 4.5), (Point.CREATING, 4.6), (Point.READY, 4.7), (Point.DISPATCHED, 4.8)
    found = tree(execution(), (*WARM, *again, *SEEN[5:]))
    names = ["queue", "claim", "record", "dispatch", "claim", "create", "record", "dispatch", "run", "collect"]
    assert [span.name for span in found.phases] == [*names, "settle"]
    assert [span.error for span in found.phases if span.name == "dispatch"] == [NOT_TAKEN, ""]
    assert found.root.error == ""


def test_a_running_call_that_another_replica_settled() -> None:
    """The run goes on while nobody drives it; what the first replica saw is there, and when the second came."""
    found = tree(execution(), (*SEEN[:6], (Point.TAKEN_UP, 7.0), *SEEN[6:]))
    assert shape(found) == shape(tree(execution(), SEEN))
    assert found.root.events == (("taken_up", 7.0),)


def test_what_a_replica_was_doing_when_it_was_lost_has_no_span() -> None:
    """Nobody saw how long it went on; the time until another one took the call up is no phase, and not to blame."""
    creating = (*COLD[:4], (Point.TAKEN_UP, 900.0), (Point.READY, 901.0), (Point.DISPATCHED, 902.0))
    found = tree(execution(), (*creating, (Point.RUNNING, 903.0), (Point.REPORTED, 907.0), (Point.FINISHED, 908.0)))
    assert [span.name for span in found.phases] == ["queue", "claim", "record", "dispatch", "run", "collect", "settle"]
    committing = (*WARM[:4], (Point.TAKEN_UP, 900.0), (Point.SETTLED, 901.0), (Point.FINISHED, 902.0))
    found = tree(execution(Status.FAILED, Reason.TIMEOUT, result_source="evidence"), committing)
    assert [(span.name, span.error) for span in found.phases] == [("queue", ""), ("claim", ""), ("settle", "")]
    assert found.root.error == "timeout"


def test_a_call_whose_replica_was_lost_before_it_heard_of_the_run() -> None:
    """Nobody saw when the call was sent and when it arrived: between the sandbox and the run there is no span."""
    found = tree(execution(), (*WARM[:4], (Point.TAKEN_UP, 4.5), *SEEN[5:]))
    assert [span.name for span in found.phases] == ["queue", "claim", "run", "collect", "settle"]


def test_a_run_of_which_only_the_last_words_tell_is_not_blamed_on_its_dispatch() -> None:
    """The runner measured a run, so it was under way while the service took it for being sent."""
    unheard = (*WARM, (Point.SETTLED, 65.0), (Point.FINISHED, 66.0))
    found = tree(execution(Status.FAILED, Reason.TIMEOUT, Timings(run=60000.0), result_source="log"), unheard)
    assert [span.error for span in found.phases] == [""] * len(found.phases)


def test_a_waiting_call_that_another_replica_took_up() -> None:
    """It waited until then, and again from there on."""
    taken = (
        *WARM[:2],
        (Point.TAKEN_UP, 6.0),
        (Point.ACCEPTED, 6.5),
        (Point.ADMITTED, 7.0),
        (Point.SETTLED, 8.0),
        (Point.FINISHED, 9.0),
    )
    found = tree(execution(Status.CANCELLED, Reason.CANCELLED, Timings(), result_source="evidence"), taken)
    assert shape(found) == [("queue", 1.0, 6.0), ("queue", 6.5, 7.0), ("claim", 7.0, 8.0), ("settle", 8.0, 9.0)]


def test_a_call_of_which_nothing_was_kept() -> None:
    """The record alone gives the whole, from acceptance to its end, and no phase."""
    found = tree(execution(), ())
    assert (found.root.start, found.root.end, found.phases) == (0.0, 9.5, ())


def test_clocks_that_disagree() -> None:
    """A replica whose clock is behind makes no span that ends before it starts, or lies outside the whole."""
    found = tree(
        execution(),
        (*SEEN[:6], (Point.TAKEN_UP, 2.0), (Point.REPORTED, 3.0), (Point.SETTLED, 3.1), (Point.FINISHED, 4.0)),
    )
    assert found.root.end == 5.0
    for span in found.phases:
        assert found.root.start <= span.start <= span.end <= found.root.end


def test_a_cancelled_call_did_not_fail() -> None:
    """Its client wanted it so: status and reason say it, nothing is an error."""
    found = tree(execution(Status.CANCELLED, Reason.CANCELLED), SEEN)
    assert not any(span.error for span in (found.root, *found.phases))
    assert found.root.attributes["executor.status"] == found.root.attributes["executor.reason"] == "cancelled"


def test_attributes_tell_who_where_and_how_and_nothing_of_the_content() -> None:
    """Ids, place and ending, by OpenTelemetry's names where it has some; of labels only those that have such names."""
    labels = {"gen_ai.tool.name": "plot", "gen_ai.tool.call.id": "call_1", "team": "blue"}
    sandbox = SandboxDetails("s", "kubernetes", job="j", pod="p", pod_uid="u", node="n", image="i")
    record = execution(Status.FAILED, Reason.EXCEPTION, sandbox=sandbox)
    record = replace(record, request=record.request.model_copy(update={"labels": labels}))
    found = tree(record, SEEN)
    assert found.root.name == "execute_tool plot"
    assert found.root.attributes == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "plot",
        "gen_ai.tool.call.id": "call_1",
        "executor.execution.id": "01JD0000000000000000000001",
        "executor.tenant": "t",
        "executor.template": "default",
        "executor.status": "failed",
        "executor.reason": "exception",
        "executor.start": "warm",
        "executor.result_source": "http",
        "process.exit.code": 0,
        "executor.backend": "kubernetes",
        "executor.sandbox": "s",
        "k8s.job.name": "j",
        "k8s.pod.name": "p",
        "k8s.pod.uid": "u",
        "k8s.node.name": "n",
    }
    assert "secret" not in repr(found)
