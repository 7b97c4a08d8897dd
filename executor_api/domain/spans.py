"""The spans of a finished execution, out of what was recorded of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from executor_api.domain.execution import Execution, SandboxDetails
from executor_api.domain.outcome import Status
from executor_api.domain.passage import Passage, Point

NOT_TAKEN = "not_taken"
"""``error.type`` of a dispatch to a sandbox that waited and did not take the call; another one was sought."""

_PHASES: dict[str, str] = {
    Point.ACCEPTED: "queue",
    Point.ADMITTED: "claim",
    Point.CREATING: "create",
    Point.READY: "record",
    Point.DISPATCHED: "dispatch",
    Point.RUNNING: "run",
    Point.REPORTED: "settle",
    Point.SETTLED: "settle",
}
"""The phase that begins at a point. It ends where the next begins, so nothing is counted twice."""
_LABELS = (
    "gen_ai.agent.id",
    "gen_ai.agent.name",
    "gen_ai.conversation.id",
    "gen_ai.tool.call.id",
    "gen_ai.tool.name",
    "gen_ai.tool.type",
)
"""Labels of a request that name what OpenTelemetry's conventions have a name for."""

Attributes = dict[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Span:
    """One of them. Times in seconds since the epoch; ``error`` is its ``error.type``, "" where it did not fail."""

    name: str
    start: float
    end: float
    attributes: Attributes = field(default_factory=dict)
    error: str = ""
    events: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """The execution's own span, and the phases below it, in order."""

    root: Span
    phases: tuple[Span, ...]


def tree(execution: Execution, passed: Passage) -> Tree:
    """The spans of a finished execution that passed these points. What nobody saw has no span."""
    points = _in_order(execution, passed)
    stretches = _placed(_stretches(points), execution)
    failure = _failure(execution)
    blamed = _blamed(stretches, points, execution)
    phases = [replace(span, error=failure) if span is blamed and failure else span for span in stretches]
    events = tuple((point, at) for point, at in points if point == Point.TAKEN_UP)
    root = Span(span_name(execution), points[0][1], points[-1][1], _attributes(execution), failure, events)
    return Tree(root, tuple(phases))


def span_name(execution: Execution) -> str:
    """By the conventions for tools of generative AI."""
    return f"execute_tool {_tool(execution)}"


def _tool(execution: Execution) -> str:
    """As the caller calls it, else what kind of thing it runs: names must be few."""
    return execution.request.labels.get("gen_ai.tool.name") or execution.request.kind


def _in_order(execution: Execution, passed: Passage) -> list[tuple[str, float]]:
    """From acceptance to the end. Clocks of replicas differ: time stands still until the later one has caught up."""
    points = list(passed)
    if not points or points[0][0] != Point.ARRIVED:
        points.insert(0, (Point.ARRIVED, execution.created_at))
    if execution.finished_at is not None and points[-1][0] != Point.FINISHED:
        points.append((Point.FINISHED, execution.finished_at))
    latest = points[0][1]
    found = []
    for point, at in points:
        latest = max(latest, at)
        found.append((point, latest))
    return found


def _stretches(points: Sequence[tuple[str, float]]) -> list[Span]:
    """The phases from point to point."""
    spans: list[Span] = []
    phase, since = "", 0.0
    for point, at in points:
        following = _PHASES.get(point, "")
        if following == phase or (point == Point.TAKEN_UP and phase == "run"):
            continue  # a run goes on while no service drives it
        if phase and (phase == "queue" or point != Point.TAKEN_UP):  # of others nobody saw how long they went on
            taken = phase != "dispatch" or point != Point.ADMITTED
            spans.append(Span(phase, since, at, error="" if taken else NOT_TAKEN))
        phase, since = following, at
    return spans


def _placed(spans: list[Span], execution: Execution) -> list[Span]:
    """With the run as long as the runner measured it, what it did after that, and how a sandbox was made."""
    placed: list[Span] = []
    for index, span in enumerate(spans):
        if span.name == "run":
            reported = execution.result_source == "http"
            run = _measured(span, execution, placed[-1].start if placed else span.start, reported=reported)
            if placed and placed[-1].name == "dispatch":
                placed[-1] = replace(placed[-1], end=run[0].start)
            placed += run
        elif span.name == "create" and not any(later.name == "create" for later in spans[index + 1 :]):
            placed.append(replace(span, attributes=_making(execution)))
        else:
            placed.append(span)
    return placed


def _measured(seen: Span, execution: Execution, earliest: float, *, reported: bool) -> list[Span]:
    """What the service saw of a run comes late, and never early; how long it took is the runner's word.

    Without a report its end is when the service learned of it, and ``executor.end_observed`` says that this is not so.
    """
    timings = execution.timings
    if timings.run is None:
        return [replace(seen, attributes={"executor.end_observed": False})]
    run, collect = timings.run / 1000, (timings.collect or 0.0) / 1000
    start = max(earliest, min(seen.start, seen.end - run - collect)) if reported else seen.start
    over = min(start + run, seen.end)
    collected = seen.end if reported else min(over + collect, seen.end)
    return [replace(seen, start=start, end=over), Span("collect", over, collected)]


def _making(execution: Execution) -> Attributes:
    timings = execution.timings
    steps = {"create": timings.create, "schedule": timings.schedule, "start": timings.start}
    return {f"executor.{step}_ms": took for step, took in steps.items() if took is not None}


def _failure(execution: Execution) -> str:
    outcome = execution.outcome
    return outcome.reason or "" if outcome is not None and outcome.status is Status.FAILED else ""


def _blamed(spans: Sequence[Span], points: Sequence[tuple[str, float]], execution: Execution) -> Span | None:
    """The phase in which an execution that failed did so: its code's, if that ran, else the last before its outcome.

    None where that phase was not seen: the service was away then, or heard of the run only once it was over.
    """
    before = [span for span in spans if span.name not in ("settle", "collect")]
    if not before:
        return None
    last, away = before[-1], max((at for point, at in points if point == Point.TAKEN_UP), default=None)
    unseen = last.name != "run" and execution.timings.run is not None
    return None if unseen or (away is not None and last.end <= away) else last


def _attributes(execution: Execution) -> Attributes:
    """Who, where and how it ended: never what it ran, nor what that printed."""
    outcome = execution.outcome
    found: Mapping[str, str | int | None] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": _tool(execution),
        **{name: execution.request.labels.get(name) for name in _LABELS if name != "gen_ai.tool.name"},
        "executor.execution.id": execution.id,
        "executor.tenant": execution.tenant,
        "executor.template": execution.request.template,
        "executor.status": execution.status,
        "executor.reason": outcome.reason if outcome is not None else None,
        "executor.start": execution.start,
        "executor.cold_reason": execution.cold_reason,
        "executor.result_source": execution.result_source,
        "process.exit.code": outcome.exit_code if outcome is not None else None,
        **_place(execution.sandbox),
    }
    return {name: str(value) if isinstance(value, str) else value for name, value in found.items() if value is not None}


def _place(sandbox: SandboxDetails | None) -> dict[str, str | None]:
    if sandbox is None:
        return {}
    return {
        "executor.backend": sandbox.backend,
        "executor.sandbox": sandbox.name,
        "k8s.job.name": sandbox.job,
        "k8s.pod.name": sandbox.pod,
        "k8s.pod.uid": sandbox.pod_uid,
        "k8s.node.name": sandbox.node,
    }
