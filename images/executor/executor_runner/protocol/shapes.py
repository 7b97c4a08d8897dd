"""The shapes that travel: a call to the runner, what it says of a start and a gap, and its report.

Annotations are evaluated here: as text, each would be compiled when a runner starts.
"""

from typing import NotRequired, TypedDict


class PythonCode(TypedDict):
    """Python source for the spare interpreter; with ``function``, that function's JSON return is the value."""

    code: str
    function: str | None
    args: list[object]
    kwargs: dict[str, object]


class ScriptCode(TypedDict):
    """Source in another language: written to a file, whose path replaces ``{file}`` in ``argv``."""

    code: str
    suffix: str
    argv: list[str]


class Limits(TypedDict):
    """What the runner enforces. Bytes and counts; ``None`` is no limit."""

    memory_bytes: int | None
    storage_bytes: int | None
    processes: int
    open_files: int
    output_bytes: int  # kept per stream, half of it head, half of it tail
    output_kill_bytes: int | None  # a stream beyond this ends the call
    artifact_bytes: int  # of all artifacts together
    value_bytes: int  # of a function's JSON value


class Reuse(TypedDict):
    """That the sandbox shall stay for further calls of the same tenant.

    ``tenant`` is an opaque word: the first call binds the sandbox to it. ``follows`` is the execution id of the call
    before, "" for the first: who knows it has stored that call's outcome. ``idle_seconds``: without a further call the
    runner leaves after so long.
    """

    tenant: str
    follows: str
    idle_seconds: float


class Call(TypedDict):
    """One call, as sent to the runner. Exactly one of ``argv``, ``python`` and ``script`` is not None."""

    execution_id: str
    argv: list[str] | None
    python: PythonCode | None
    script: ScriptCode | None
    stdin: str  # base64
    env: dict[str, str]
    files: dict[str, str]  # relative path -> base64
    artifacts: list[str]  # globs, relative
    timeout_seconds: float  # counted from the child's start
    grace_seconds: float  # between TERM and KILL
    limits: Limits
    reuse: Reuse | None


class Started(TypedDict):
    """The child is about to run."""

    setup_ms: float  # files written, spare handed the call


class Gap(TypedDict):
    """Bytes dropped from the middle of one stream."""

    stream: int
    dropped_bytes: int


class ExceptionInfo(TypedDict):
    """An uncaught Python exception, as the child describes it. Untrusted: it only explains an exit code of 1."""

    type: str
    message: str
    traceback: str


class Usage(TypedDict):
    """What the call and all its descendants used."""

    cpu_seconds: float
    peak_memory_bytes: int


class Processes(TypedDict):
    """The census after the main child ended: what it left, and what the runner could not get rid of."""

    left_behind: int
    zombies: int
    unkillable: int


class GpuMemory(TypedDict):
    """Memory of the sandbox's GPUs, all of them together, before its calls and once this one's processes had ended.

    ``after_bytes`` is None if the driver gave no answer. ``leaked_bytes``: what had not come back 5 s later.
    ``returned``: all of it has, as the driver says; if not, the sandbox and its GPUs are not fit for another call.
    ``uncertain``, only there if True: what is missing may be held by a process of another sandbox; then ``returned``
    is False, which releases that don't know the field can read.
    """

    devices: int
    before_bytes: int
    after_bytes: int | None
    leaked_bytes: int
    returned: bool
    uncertain: NotRequired[bool]


class Report(TypedDict):
    """What the runner measured. ``cause`` is why the runner ended the call; None when the child ended by itself."""

    version: int
    execution_id: str
    cause: str | None
    message: str
    exit_code: int | None
    signal: int | None
    stdout_bytes: int
    stderr_bytes: int
    stdout_dropped_bytes: int
    stderr_dropped_bytes: int
    run_ms: float  # child's start to its end
    collect_ms: float  # kill, drain, census, artifacts
    usage: Usage
    processes: Processes
    gpu: NotRequired[GpuMemory]  # only of a sandbox that has GPUs of its own
    value_json: NotRequired[str]  # JSON text of a function's return
    exception: NotRequired[ExceptionInfo]
    artifacts_skipped: NotRequired[list[str]]  # "path: why"


class Cause:
    """Why the runner ended a call that had not ended by itself."""

    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    OUT_OF_MEMORY = "out_of_memory"
    PROCESS_LIMIT = "process_limit"
    OUTPUT_LIMIT = "output_limit"
    STORAGE_LIMIT = "storage_limit"
    TERMINATED = "terminated"  # somebody outside the sandbox asked the runner to leave: pod deleted, evicted, drained
    SETUP_FAILED = "setup_failed"  # files could not be written, spare could not be handed the call
