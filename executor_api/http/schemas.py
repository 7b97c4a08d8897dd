"""What answers look like, for the OpenAPI document only: `render` writes them, a test holds the two together."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from executor_api.domain.execution import EventKind, Start
from executor_api.domain.outcome import Reason, Status
from executor_api.domain.request import Isolation


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Base64(_Shape):
    """Bytes that are not UTF-8."""

    base64: str


class TimingsMs(_Shape):
    """Milliseconds spent in each phase; null where it has not come to that."""

    queue: float | None
    claim: float | None
    create: float | None
    schedule: float | None
    start: float | None
    run: float | None
    collect: float | None
    total: float | None


class UsageShape(_Shape):
    """What the call and all its descendants used."""

    cpu_seconds: float
    peak_memory_bytes: int


class ProcessesShape(_Shape):
    """The census after the call's main process ended."""

    left_behind: int = Field(description="Processes that outlived the call and were ended.")
    zombies: int = Field(description="Of them, those that had ended and nobody had waited for.")
    unkillable: int = Field(description="Of them, those that could not be ended (D state).")


class GpuMemoryShape(_Shape):
    """Memory of the sandbox's GPUs, all of them together."""

    devices: int
    before_bytes: int = Field(description="In use when the sandbox began.")
    after_bytes: int | None = Field(
        description="In use once every process of the call had ended, at most 5 s later; null if the driver gave no "
        "answer."
    )
    leaked_bytes: int = Field(description="What had not come back by then.")
    returned: bool = Field(
        description="Whether all is known to have come back. If not, the sandbox serves nobody again."
    )
    uncertain: bool = Field(
        default=False,
        description="Only there if true: some did not come back, but it may be another sandbox's, for the driver lists "
        "processes that may not be this one's.",
    )


class ExceptionShape(_Shape):
    """An uncaught Python exception."""

    type: str
    message: str
    traceback: str


class SandboxShape(_Shape):
    """Where it ran."""

    name: str
    backend: Literal["local", "kubernetes"]
    job: str | None
    pod: str | None
    pod_uid: str | None
    node: str | None
    image: str | None


class ExecutionSummary(_Shape):
    """An execution without its output."""

    id: str
    status: Status
    reason: Reason | None = Field(description="Why it did not succeed; names are only ever added.")
    message: str
    exit_code: int | None
    signal: str | None = Field(examples=["SIGKILL"])
    stdout_bytes: int = Field(description="All that was printed, dropped bytes included.")
    stderr_bytes: int
    stdout_dropped_bytes: int
    stderr_dropped_bytes: int
    truncated: bool
    start: Start | None
    cold_reason: str | None
    timings_ms: TimingsMs
    usage: UsageShape | None
    processes: ProcessesShape | None
    gpu: GpuMemoryShape | None = Field(
        description="Only of a call that had NVIDIA GPUs to itself, on the cluster; null where no driver was found."
    )
    sandbox: SandboxShape | None
    template: str
    isolation: Isolation
    labels: dict[str, str]
    timeout_seconds: float
    cancel_requested: bool
    created_at: str = Field(json_schema_extra={"format": "date-time"})
    started_at: str | None = Field(json_schema_extra={"format": "date-time"})
    finished_at: str | None = Field(json_schema_extra={"format": "date-time"})


class ExecutionAnswer(ExecutionSummary):
    """An execution. While it runs, the output is what it printed so far."""

    stdout: str = Field(
        description="As text; bytes that are not UTF-8 are replaced, and one line stands where bytes were dropped."
    )
    stdout_base64: str = Field("", description="Only if stdout is not UTF-8: the bytes that were kept.")
    stderr: str
    stderr_base64: str = Field("", description="Only if stderr is not UTF-8: the bytes that were kept.")
    value: Any = Field(description="The JSON return of `function`.")
    exception: ExceptionShape | None
    artifacts: dict[str, str | Base64]
    artifacts_skipped: list[str] = Field(description="What was not brought back, each with the reason.")


class ExecutionPage(_Shape):
    """Executions, newest first."""

    executions: list[ExecutionSummary]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last. Also in `Link`.")


class AmountShape(_Shape):
    """Kubernetes quantities."""

    cpu: str
    memory: str
    ephemeral_storage: str


class GpuShape(_Shape):
    """Devices a template gives and allows."""

    count: int
    max_count: int
    resources: list[str]
    shared: bool = Field(description="Whether other calls use the same device at once.")


class TemplateShape(_Shape):
    """What a request may ask of a template."""

    name: str
    digest: str
    languages: list[str]
    resources: AmountShape
    max_resources: AmountShape
    gpu: GpuShape
    timeout_seconds: float
    max_timeout_seconds: float
    isolation: list[Isolation]


class TemplateList(_Shape):
    """All templates of this service."""

    templates: list[TemplateShape]


class PoolShape(_Shape):
    """A warm pool. Null where nothing was measured yet."""

    template: str
    digest: str = Field(description="What its sandboxes are made from; others do not count.")
    desired: int = Field(description="Sandboxes that should wait.")
    ready: int = Field(description="Sandboxes that wait.")
    starting: int
    held: int = Field(description="Of those starting: something keeps them from it.")
    taken: int = Field(description="Sandboxes of it that have a call.")
    hits: int = Field(description="Claims of this process that found one waiting, since it started.")
    waits: int = Field(description="Claims that waited for one.")
    misses: int = Field(description="Claims that got none: the call had one made for it.")
    conflicts: int = Field(description="Hits and waits that met a sandbox another call had, or that had died.")
    replacement_seconds: float | None = Field(description="From its pod's showing to ready.")
    refill_per_second: float | None = Field(description="Sandboxes that become ready a second while any is made.")
    changed_at: str | None = Field(
        description="When its sandboxes became what they are; null if not in this process's life.",
        json_schema_extra={"format": "date-time"},
    )
    problems: list[str] = Field(description="What keeps it from its size.")
    sentences: list[str] = Field(description="All of it for people and agents.")


class PoolList(_Shape):
    """Every warm pool, by template; none on the local backend."""

    pools: list[PoolShape]


class ExplanationShape(_Shape):
    """An execution in sentences to act on. Their wording may change."""

    id: str
    summary: str
    sentences: list[str]


class HealthShape(_Shape):
    """Whether the service can run calls."""

    ready: bool
    problems: list[str] = Field(description="What is wrong, each with the fix.")
    notes: list[str] = Field(description="What the backend got.")


class ServerSentEvent(_Shape):
    """One event of a stream."""

    event: EventKind
    data: str = Field(description="JSON; of `finished`, the whole execution.")
    id: str = Field("", description="Its number, for `Last-Event-ID`; some pieces of output have none.")


class FieldErrorShape(_Shape):
    """One wrong field, header or parameter."""

    field: str = Field(description="Dotted path, as the client wrote it; empty for the whole body.")
    message: str
    allowed: list[str] = []


class Problem(_Shape):
    """Problem details (RFC 9457)."""

    type: str = Field(description="Stable; tells kinds apart.", examples=["/problems/invalid-request"])
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldErrorShape] = []
