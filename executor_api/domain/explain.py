"""An execution, or a pool, in sentences that an agent or an operator can act on. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from executor_api.domain.advice import ADVICE
from executor_api.domain.execution import Execution, Start
from executor_api.domain.history import Step
from executor_api.domain.outcome import Outcome, Reason, Status, returned
from executor_api.domain.pool import PoolStatus

_RECENT_SECONDS = 300.0
"""A pool that changed longer ago explains nothing any more."""
_NOT_STARTED = frozenset(
    {Reason.IMAGE_PULL, Reason.UNSCHEDULABLE, Reason.QUOTA, Reason.START_TIMEOUT, Reason.REJECTED_TEMPLATE}
)
_HALF = 0.5
_UNFIT = "its sandbox serves nobody again, and pools keep off its node for a while"
_SOURCES = {
    "status": "The connection to its sandbox was lost; its result was read from the pod's termination message.",
    "log": "The connection to its sandbox was lost; its result was read from the pod's log.",
    "evidence": "No report of its sandbox is left; how it ended follows from what the backend could see.",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """One sentence for those in a hurry, and all there is to say."""

    summary: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What there is to know of an execution beyond its record."""

    steps: Sequence[Step] = ()
    pool: PoolStatus | None = None
    """Its template's, if there is one."""
    ahead: int | None = None
    """Those who get a slot before it, if it waits for one in this process."""
    held_by: int | None = None
    """How many executions of its tenant run, if it waits for one of them to end, whoever else may run."""
    seeking: int | None = None
    """How many of its template have a slot and no sandbox, if it waits for one of them to get one."""
    obstacle: str = ""
    """What keeps its sandbox from starting, and since when."""


def explain(execution: Execution, around: Surroundings, now: float) -> Explanation:
    """Where an execution is, or how it ended and why. ``now``: seconds since the epoch."""
    outcome = execution.outcome
    found = (
        _asked_to_end(execution),
        _beginning(execution),
        *_notes(execution, around.steps),
        _held(around.held_by),
        _crowded(around.seeking),
        f"Its sandbox is {around.obstacle}." if around.obstacle else "",
        _advice(outcome),
        _SOURCES.get(execution.result_source or "", ""),
        _left_behind(outcome),
        _gpu(outcome),
        *_waits(execution, around.steps),
        _phases(execution),
        *_shortage(execution, around.pool, now),
    )
    return Explanation(_summary(execution, around, now), tuple(filter(None, found)))


def pool_sentences(pool: PoolStatus, now: float) -> tuple[str, ...]:
    """How a pool is, and what is wrong with it."""
    return tuple(filter(None, (_supply(pool), _claims(pool), _pace(pool), _changed(pool, now), *pool.problems)))


def duration(seconds: float) -> str:
    """As people say it: ``4.2 ms``, ``1.3 s``, ``12 min``."""
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 60:.0f} min"  # noqa: PLR2004  ten minutes


def _summary(execution: Execution, around: Surroundings, now: float) -> str:
    age, outcome, ahead = duration(now - execution.created_at), execution.outcome, around.ahead
    if outcome is not None:
        return _ended(execution, outcome)
    if execution.status is Status.QUEUED:
        behind = "" if ahead is None else f", behind {ahead} other executions" if ahead else ", and is next"
        return f"It has waited for a slot for {age}{behind}."
    if execution.status is Status.STARTING:
        seeking = duration(now - (_left_queue(around.steps) or execution.created_at))
        return f"It was accepted {age} ago, and for {seeking} its sandbox has been sought or made."
    ran = now - (execution.started_at or execution.created_at)
    return f"It has run for {duration(ran)} of at most {duration(execution.timeout_seconds)}."


def _ended(execution: Execution, outcome: Outcome) -> str:
    total = (execution.finished_at or execution.created_at) - execution.created_at
    after = f"after {duration((execution.timings.total or total * 1000) / 1000)}"
    if outcome.reason is None:
        return f"It succeeded {after}."
    return f"It {'was cancelled' if outcome.status is Status.CANCELLED else 'failed'} {after} ({outcome.reason})" + (
        f": {outcome.message.rstrip('.')}." if outcome.message else "."
    )


def _held(running: int | None) -> str:
    return "" if running is None else f"{running} of its tenant's run, as many as may at once."


def _crowded(seeking: int | None) -> str:
    if seeking is None:
        return ""
    return f"{seeking} of its template wait for sandboxes, as many as may at once; other templates' calls pass them."


def _asked_to_end(execution: Execution) -> str:
    return "Somebody has asked to cancel it." if execution.cancel_requested and execution.outcome is None else ""


def _beginning(execution: Execution) -> str:
    if execution.start is Start.WARM:
        return "It got a sandbox made beforehand."
    if execution.start is Start.REUSED:
        return "It ran in a sandbox that its tenant had used before."
    if execution.start is None and execution.cold_reason is None:
        return ""
    because = f", because {execution.cold_reason}" if execution.cold_reason else ""
    made = "is being made" if execution.start is None and execution.outcome is None else "was made"
    return f"A sandbox {made} for it{because}."


def _notes(execution: Execution, steps: Sequence[Step]) -> Iterator[str]:
    """What happened on its way that was not to be expected."""
    for step in steps:
        if step.note:
            yield f"{duration(step.at - execution.created_at)} after it was accepted, {step.note.rstrip('.')}."


def _left_queue(steps: Sequence[Step]) -> float | None:
    """When it got its slot."""
    return next((step.at for step in steps if step.status is not Status.QUEUED), None)


def _advice(outcome: Outcome | None) -> str:
    return ADVICE[outcome.reason] if outcome is not None and outcome.reason is not None else ""


def _left_behind(outcome: Outcome | None) -> str:
    if outcome is None or outcome.processes is None or not outcome.processes["left_behind"]:
        return ""
    unkillable = outcome.processes["unkillable"]
    end = (
        f"{unkillable} of which can't be ended (D state), so its sandbox serves nobody again"
        if unkillable
        else "all ended"
    )
    return f"Processes it left behind: {outcome.processes['left_behind']}, {end}."


def _gpu(outcome: Outcome | None) -> str:
    gpu = outcome.gpu if outcome is not None else None
    if gpu is None or returned(gpu):
        return ""
    if gpu["after_bytes"] is None:
        return f"After it the driver of its GPU did not answer, so {_UNFIT}."
    if gpu.get("uncertain"):
        return (
            "Whether its GPU memory came back can't be told, because processes that may be another's hold some of the "
            "device's; so its sandbox serves nobody again."
        )
    leaked = gpu["leaked_bytes"] / 1024**2
    return f"GPU memory that did not come back after its end: {leaked:.0f} MiB; so {_UNFIT}."


def _waits(execution: Execution, steps: Sequence[Step]) -> Iterator[str]:
    """For a slot, by its events; and what it waited beyond that before its call was sent."""
    got_slot = _left_queue(steps)
    if got_slot is None:
        return
    for_slot = got_slot - execution.created_at
    if for_slot >= 1:
        yield f"It waited {duration(for_slot)} for a slot."
    for_pool = (execution.timings.queue or 0.0) / 1000 - for_slot
    if for_pool >= 1:
        yield f"It waited {duration(for_pool)} for a sandbox of the pool."


def _phases(execution: Execution) -> str:
    """How long each took, and which of them made up most of it."""
    timings = execution.timings
    known = {item.name: getattr(timings, item.name) for item in fields(timings) if item.name != "total"}
    spent = {name: value for name, value in known.items() if value}
    if not spent:
        return ""
    longest, total = max(spent, key=lambda name: spent[name]), sum(spent.values())
    most = f"; most of it was {longest}" if spent[longest] > total * _HALF else f"; the longest was {longest}"
    return f"Phases: {', '.join(f'{name} {duration(value / 1000)}' for name, value in spent.items())}{most}."


def _shortage(execution: Execution, pool: PoolStatus | None, now: float) -> tuple[str, ...]:
    """How its pool is, while it waits for a sandbox of it; and what is wrong there, if that may be why it has none."""
    if pool is None or not _lacks_sandbox(execution, now):
        return ()
    awaits = execution.status is Status.STARTING and execution.cold_reason is None
    said = (*((_supply(pool),) if awaits else ()), *pool.problems)
    return tuple(f"Its pool says: {sentence}" for sentence in said)


def _lacks_sandbox(execution: Execution, now: float) -> bool:
    """Whether the pool's obstacles may be its own."""
    if execution.outcome is None:
        return execution.status in (Status.QUEUED, Status.STARTING)
    recent = now - (execution.finished_at or now) <= _RECENT_SECONDS
    return recent and execution.outcome.reason in _NOT_STARTED


def _supply(pool: PoolStatus) -> str:
    return (
        f"{pool.ready} of {pool.desired} sandboxes of template {pool.template!r} wait ready; {pool.starting} are being "
        f"made, {pool.taken} are in use."
    )


def _claims(pool: PoolStatus) -> str:
    claims = pool.hits + pool.waits + pool.misses
    if not claims:
        return ""
    lost = f"; {pool.conflicts} met one that was taken by another or had died" if pool.conflicts else ""
    return (
        f"{pool.hits} of {claims} claims of this process found one waiting ({pool.hits / claims:.0%}), {pool.waits} "
        f"waited for one, {pool.misses} got none{lost}."
    )


def _pace(pool: PoolStatus) -> str:
    if pool.replacement_seconds is None:
        return ""
    rate = (
        "" if pool.refill_per_second is None else f"; {pool.refill_per_second:.3g} a second become ready while it fills"
    )
    return f"A new one is ready after {duration(pool.replacement_seconds)}{rate}."


def _changed(pool: PoolStatus, now: float) -> str:
    if pool.changed_at is None or now - pool.changed_at > _RECENT_SECONDS:
        return ""
    return f"Its sandboxes changed {duration(now - pool.changed_at)} ago; those of before are not used."
