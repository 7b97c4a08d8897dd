"""An execution: one run for a client, from its acceptance to its settled outcome, and the events on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from executor_api.domain.caller import Origin
from executor_api.domain.outcome import Outcome, Status
from executor_api.domain.passage import Passage
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.trace_context import TraceContext


class Start(StrEnum):
    """How the execution came by its sandbox."""

    WARM = "warm"
    COLD = "cold"
    REUSED = "reused"


@dataclass(frozen=True, slots=True)
class SandboxDetails:
    """Where it ran, as far as known: Kubernetes names, or the local sandbox's own."""

    name: str
    backend: str  # "kubernetes" or "local"
    job: str | None = None
    pod: str | None = None
    pod_uid: str | None = None
    node: str | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds spent in each phase; None where it has not come to that."""

    queue: float | None = None
    claim: float | None = None
    create: float | None = None
    schedule: float | None = None
    start: float | None = None
    run: float | None = None
    collect: float | None = None
    total: float | None = None


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's promise that requests with this key are one request; ``digest`` tells whether it kept it."""

    key: str
    digest: str  # SHA-256 of the canonical request


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """The record of one execution. Replaced, never changed in place."""

    id: str  # ULID: sorts by time of acceptance
    tenant: str
    request: ExecutionRequest
    status: Status
    created_at: float  # seconds since the epoch, as all *_at
    timeout_seconds: float
    template_digest: str
    idempotency: IdempotencyKey | None = None
    traceparent: str | None = None  # of the caller, as is tracestate
    tracestate: str = ""
    origin: Origin | None = None
    cancel_requested: bool = False
    dispatched: bool = False  # the call may have reached a runner: it must never be sent to another one
    started_at: float | None = None
    finished_at: float | None = None
    sandbox: SandboxDetails | None = None
    start: Start | None = None
    cold_reason: str | None = None
    timings: Timings = field(default_factory=Timings)
    passed: Passage = ()  # until it is finished, for whoever takes it up
    outcome: Outcome | None = None
    result_source: str | None = None  # http | status | log | evidence

    @property
    def caller_trace(self) -> TraceContext | None:
        """Where in a trace its caller was; None if it did not say."""
        return TraceContext(self.traceparent, self.tracestate) if self.traceparent is not None else None


class EventKind(StrEnum):
    """What an event of an execution tells. Order within one execution is the order of its numbers."""

    STATUS = "status"  # JSON: status, and what became known with it
    STDOUT = "stdout"  # raw bytes
    STDERR = "stderr"  # raw bytes
    GAP = "gap"  # JSON: stream and dropped_bytes
    ARTIFACT = "artifact"  # path and content, as the runner's artifact frame
    FINISHED = "finished"  # empty: the record has its outcome


@dataclass(frozen=True, slots=True)
class Event:
    """One numbered event. ``journal_offset`` is where the runner's journal goes on behind it, if it came from there."""

    number: int  # 1, 2, 3 ... within the execution
    kind: EventKind
    data: bytes
    journal_offset: int | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """What a call printed and made, put together from its events."""

    stdout: bytes
    stderr: bytes
    stdout_gap: tuple[int, int] | None  # place in stdout where bytes were dropped, and how many
    stderr_gap: tuple[int, int] | None
    artifacts: dict[str, bytes]
