"""How a call ended: the runner's report and the backend's evidence, settled into one truthful outcome."""

from __future__ import annotations

import signal as signals
from dataclasses import dataclass, field
from enum import StrEnum

from executor_runner.protocol.shapes import Cause, ExceptionInfo, GpuMemory, Processes, Report, Usage


class Status(StrEnum):
    """Where an execution is in its life."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """True once nothing of it can change any more."""
        return not NEXT[self]


NEXT: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.STARTING, Status.FAILED, Status.CANCELLED}),
    Status.STARTING: frozenset({Status.RUNNING, Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}),
    Status.RUNNING: frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}
"""Which status may follow which. From STARTING straight to an end: the report can be the first thing we see."""


class Reason(StrEnum):
    """Why an execution did not succeed. A stable contract: names are only ever added."""

    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    OUT_OF_MEMORY = "out_of_memory"
    OUTPUT_LIMIT = "output_limit"
    PROCESS_LIMIT = "process_limit"
    STORAGE_LIMIT = "storage_limit"
    SETUP_FAILED = "setup_failed"  # files or arguments that the sandbox could not take
    EVICTED = "evicted"
    PREEMPTED = "preempted"
    NODE_LOST = "node_lost"
    IMAGE_PULL = "image_pull"
    UNSCHEDULABLE = "unschedulable"
    QUOTA = "quota"
    START_TIMEOUT = "start_timeout"  # the sandbox did not start in time, and nothing says why
    SANDBOX_LOST = "sandbox_lost"
    REJECTED_TEMPLATE = "rejected_template"  # the cluster refuses Jobs made from this template


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the backend can say of a sandbox's end, when the runner was not the one who ended the call."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The settled ending of an execution."""

    status: Status
    reason: Reason | None
    message: str
    exit_code: int | None = None
    signal: str | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_dropped_bytes: int = 0
    stderr_dropped_bytes: int = 0
    value_json: str | None = None
    exception: ExceptionInfo | None = None
    usage: Usage | None = None
    processes: Processes | None = None
    gpu: GpuMemory | None = None
    artifacts_skipped: list[str] = field(default_factory=list)


_CAUSES = {
    Cause.TIMEOUT: Reason.TIMEOUT,
    Cause.CANCELLED: Reason.CANCELLED,
    Cause.OUT_OF_MEMORY: Reason.OUT_OF_MEMORY,
    Cause.PROCESS_LIMIT: Reason.PROCESS_LIMIT,
    Cause.OUTPUT_LIMIT: Reason.OUTPUT_LIMIT,
    Cause.STORAGE_LIMIT: Reason.STORAGE_LIMIT,
    Cause.SETUP_FAILED: Reason.SETUP_FAILED,
}


def settle(report: Report, evidence: Evidence | None = None) -> Outcome:
    """Settle an ending from the runner's report; ``evidence`` matters only if an outsider told the runner to leave."""
    status, reason, message = _verdict(report, evidence)
    return Outcome(
        status=status,
        reason=reason,
        message=message,
        exit_code=report["exit_code"],
        signal=signal_name(report["signal"]),
        stdout_bytes=report["stdout_bytes"],
        stderr_bytes=report["stderr_bytes"],
        stdout_dropped_bytes=report["stdout_dropped_bytes"],
        stderr_dropped_bytes=report["stderr_dropped_bytes"],
        value_json=report.get("value_json"),
        exception=report.get("exception"),
        usage=report["usage"],
        processes=report["processes"],
        gpu=report.get("gpu"),
        artifacts_skipped=report.get("artifacts_skipped", []),
    )


def leaves_nothing(report: Report) -> bool:
    """Whether its sandbox is as it was before: every process was ended, and all memory of GPUs came back."""
    return report["processes"]["unkillable"] == 0 and returned(report.get("gpu"))


def returned(gpu: GpuMemory | None) -> bool:
    """Whether a call's GPU memory is known to have come back; that of a call without GPUs did."""
    return gpu is None or gpu["returned"]


def leaked(gpu: GpuMemory | None) -> bool:
    """Whether some is known not to have, or the driver did not answer."""
    return gpu is not None and not gpu["returned"] and not gpu.get("uncertain")


def settle_without_report(evidence: Evidence, stdout_bytes: int = 0, stderr_bytes: int = 0) -> Outcome:
    """Settle an ending that no runner reported: never a success."""
    status = Status.CANCELLED if evidence.reason is Reason.CANCELLED else Status.FAILED
    return Outcome(status, evidence.reason, evidence.message, stdout_bytes=stdout_bytes, stderr_bytes=stderr_bytes)


def signal_name(number: int | None) -> str | None:
    """``SIGKILL`` for 9; real-time signals by their number."""
    if number is None:
        return None
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _verdict(report: Report, evidence: Evidence | None) -> tuple[Status, Reason | None, str]:
    cause = report["cause"]
    if cause == Cause.TERMINATED:
        found = evidence or Evidence(Reason.SANDBOX_LOST, "the sandbox was told to end from outside while the call ran")
        return Status.FAILED, found.reason, found.message
    if cause is not None:
        status = Status.CANCELLED if cause == Cause.CANCELLED else Status.FAILED
        return status, _CAUSES[cause], report["message"]
    if report["signal"] is not None:
        return Status.FAILED, Reason.SIGNAL, f"ended by {signal_name(report['signal'])}"
    if report["exit_code"] == 0:
        return Status.SUCCEEDED, None, ""
    exception = report.get("exception")
    if exception is not None and report["exit_code"] == 1:
        return Status.FAILED, Reason.EXCEPTION, f"{exception['type']}: {exception['message']}"
    return Status.FAILED, Reason.EXIT_CODE, f"exit code {report['exit_code']}"
