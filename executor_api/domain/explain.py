"""An execution, or a pool, in sentences that an agent or an operator can act on. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from executor_api.domain.advice import ADVICE
from executor_api.domain.execution import Execution, Start
from executor_api.domain.outcome import Outcome, Reason, Status
from executor_api.domain.pool import PoolStatus

_RECENT_SECONDS = 300.0
"""A pool that changed longer ago explains nothing any more."""
_NOT_STARTED = frozenset(
    {Reason.IMAGE_PULL, Reason.UNSCHEDULABLE, Reason.QUOTA, Reason.START_TIMEOUT, Reason.REJECTED_TEMPLATE}
)
_HALF = 0.5
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


def explain(execution: Execution, pool: PoolStatus | None, ahead: int | None, now: float) -> Explanation:
    """Where an execution is, or how it ended and why. ``ahead``: those who get a slot before it, if it waits for one.

    ``pool`` is its template's, if there is one; ``now``: seconds since the epoch.
    """
    outcome = execution.outcome
    found = (
        _asked_to_end(execution),
        _beginning(execution, pool),
        _advice(outcome),
        _SOURCES.get(execution.result_source or "", ""),
        _left_behind(outcome),
        *_phases(execution),
        *(_obstacles(pool) if _lacks_sandbox(execution) else ()),
    )
    return Explanation(_summary(execution, ahead, now), tuple(filter(None, found)))


def pool_sentences(pool: PoolStatus, now: float) -> tuple[str, ...]:
    """How a pool is, and what is wrong with it."""
    return tuple(filter(None, (_supply(pool), _claims(pool), _pace(pool), _changed(pool, now), *pool.problems)))


def duration(seconds: float) -> str:
    """As people say it: ``4.2 ms``, ``1.3 s``, ``12 min``."""
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 60:.0f} min"  # noqa: PLR2004  ten minutes


def _summary(execution: Execution, ahead: int | None, now: float) -> str:
    age, outcome = duration(now - execution.created_at), execution.outcome
    if outcome is not None:
        return _ended(execution, outcome)
    if execution.status is Status.QUEUED:
        behind = "" if ahead is None else f", behind {ahead} other executions" if ahead else ", and is next"
        return f"It has waited for a slot for {age}{behind}."
    if execution.status is Status.STARTING:
        return f"It was accepted {age} ago and its sandbox is being found or made."
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


def _asked_to_end(execution: Execution) -> str:
    return "Somebody has asked to cancel it." if execution.cancel_requested and execution.outcome is None else ""


def _beginning(execution: Execution, pool: PoolStatus | None) -> str:
    if execution.start is Start.WARM:
        return "It found a sandbox waiting."
    if execution.start is Start.REUSED:
        return "It ran in a sandbox that its tenant had used before."
    if execution.start is None and execution.cold_reason is None:
        return ""
    because = f", because {execution.cold_reason}" if execution.cold_reason else ""
    return f"A sandbox was made for it{because}.{_change_before(execution, pool)}"


def _change_before(execution: Execution, pool: PoolStatus | None) -> str:
    """Whether the pool was too young to serve the call."""
    if pool is None or pool.changed_at is None or not 0 <= execution.created_at - pool.changed_at <= _RECENT_SECONDS:
        return ""
    since = duration(execution.created_at - pool.changed_at)
    return f" The sandboxes of template {pool.template!r} had changed {since} before the call."


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


def _phases(execution: Execution) -> Iterator[str]:
    """How long each took, and which of them made up most of it."""
    timings = execution.timings
    known = {item.name: getattr(timings, item.name) for item in fields(timings) if item.name != "total"}
    spent = {name: value for name, value in known.items() if value}
    if not spent:
        return
    if timings.queue is not None and timings.queue >= 1:
        yield f"It waited {duration(timings.queue / 1000)} for a slot or for a sandbox of the pool."
    longest, total = max(spent, key=lambda name: spent[name]), sum(spent.values())
    most = f"; most of it was {longest}" if spent[longest] > total * _HALF else f"; the longest was {longest}"
    yield f"Phases: {', '.join(f'{name} {duration(value / 1000)}' for name, value in spent.items())}{most}."


def _lacks_sandbox(execution: Execution) -> bool:
    """Whether the pool's obstacles may be its own."""
    if execution.outcome is None:
        return execution.status in (Status.QUEUED, Status.STARTING)
    return execution.outcome.reason in _NOT_STARTED


def _obstacles(pool: PoolStatus | None) -> tuple[str, ...]:
    return () if pool is None else tuple(f"Its pool says: {problem}" for problem in pool.problems)


def _supply(pool: PoolStatus) -> str:
    return (
        f"{pool.ready} of {pool.desired} sandboxes of template {pool.template!r} wait ready; {pool.starting} are being "
        f"made, {pool.taken} are in use."
    )


def _claims(pool: PoolStatus) -> str:
    calls = pool.hits + pool.misses
    if not calls:
        return ""
    lost = f"; {pool.conflicts} met one that was taken by another or had died" if pool.conflicts else ""
    return f"{pool.hits} of {calls} calls to this process found one waiting ({pool.hits / calls:.0%}){lost}."


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
