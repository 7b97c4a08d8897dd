"""What drives share, and what each of them works on."""

from __future__ import annotations

from dataclasses import dataclass, field

from executor_api.backends.base import Backend
from executor_api.domain.plan import Plan
from executor_api.service.admission import Admission, Ticket
from executor_api.service.audit import Audit
from executor_api.service.clock import Clock
from executor_api.service.live import Live
from executor_api.service.metrics import ServiceMetrics
from executor_api.service.patience import Patience
from executor_api.service.timeline import Timeline
from executor_api.service.tracing import Tracing

COLLECT_SLACK = 15.0
"""Seconds beyond timeout and grace for artifacts, census and lost connections: the ring around the runner's own."""


def own_sandbox(execution_id: str) -> str:
    """The name of the sandbox made for one execution: known before it exists, so that a crash between loses neither."""
    return f"x-{execution_id.lower()}"


@dataclass(frozen=True, slots=True)
class Workplace:
    """What all drives share."""

    backend: Backend
    admission: Admission
    clock: Clock
    metrics: ServiceMetrics
    audit: Audit
    tracing: Tracing


@dataclass(frozen=True, slots=True)
class Assignment:
    """One execution to drive. ``plan`` is None where, after a restart, its template no longer accepts it."""

    live: Live
    plan: Plan | None
    ticket: Ticket
    timeline: Timeline
    recovered: bool = False
    patience: Patience = field(default_factory=Patience)

    @property
    def sandbox_name(self) -> str:
        """The sandbox in the record: the one that may have the call."""
        sandbox = self.live.record.sandbox
        return sandbox.name if sandbox is not None else self.own_sandbox

    @property
    def own_sandbox(self) -> str:
        """The name of a sandbox made for this execution."""
        return own_sandbox(self.live.record.id)
