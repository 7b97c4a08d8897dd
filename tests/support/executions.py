"""Executions to keep, one like the other."""

from __future__ import annotations

from dataclasses import replace

from executor_api.domain.execution import Execution
from executor_api.domain.outcome import Outcome, Reason, Status
from executor_api.domain.request import ExecutionRequest


def execution(number: int, **changes: object) -> Execution:
    """The n-th execution: ids sort by number, as ULIDs do by time."""
    queued = Execution(
        id=f"01JD000000000000000000{number:04d}",
        tenant="default",
        request=ExecutionRequest(code="print(1)"),
        status=Status.QUEUED,
        created_at=1000.0 + number,
        timeout_seconds=60.0,
        template_digest="0123456789ab",
    )
    return replace(queued, **changes)  # type: ignore[arg-type]


def finished(record: Execution, at: float, reason: Reason | None = None) -> Execution:
    status = Status.FAILED if reason else Status.SUCCEEDED
    return replace(record, status=status, finished_at=at, outcome=Outcome(status, reason, "over"))
