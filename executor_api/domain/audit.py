"""What the audit log keeps of an execution: whose it was, what, where, and how it ended; nothing of its contents."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from executor_api.domain.execution import Execution
from executor_api.domain.plan import SandboxResources
from executor_api.domain.request import ExecutionRequest


def execution_line(execution: Execution, resources: SandboxResources | None) -> dict[str, object]:
    """One finished execution. ``resources`` is what its sandbox had, where that is known."""
    origin, outcome, sandbox, request = execution.origin, execution.outcome, execution.sandbox, execution.request
    return {
        "execution": execution.id,
        "tenant": execution.tenant,
        "caller": origin and origin.caller,
        "way": origin and origin.way,
        "address": origin and origin.address,
        "kind": request.kind,
        "sha256": fingerprint(request),
        "template": request.template,
        "isolation": request.isolation,
        "cpu": resources and resources.cpu,
        "memory": resources and resources.memory,
        "ephemeral_storage": resources and resources.ephemeral_storage,
        "gpus": resources and resources.gpu_count,
        "start": execution.start,
        "status": execution.status,
        "reason": outcome and outcome.reason,
        "exit_code": outcome and outcome.exit_code,
        "signal": outcome and outcome.signal,
        "backend": sandbox and sandbox.backend,
        "sandbox": sandbox and sandbox.name,
        "image": sandbox and sandbox.image,
        "pod": sandbox and sandbox.pod,
        "pod_uid": sandbox and sandbox.pod_uid,
        "node": sandbox and sandbox.node,
        "accepted_at": _instant(execution.created_at),
        "duration_ms": _duration(execution),
    }


def fingerprint(request: ExecutionRequest) -> str:
    """SHA-256, in hex, of the code or the shell command; of an argv list its items with a NUL behind each."""
    if isinstance(request.command, list):
        text = "".join(f"{item}\0" for item in request.command)
    else:
        text = request.command or request.code or ""
    return hashlib.sha256(text.encode()).hexdigest()


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _duration(execution: Execution) -> float | None:
    """Milliseconds from its acceptance to its outcome."""
    if execution.finished_at is None:
        return None
    return round((execution.finished_at - execution.created_at) * 1000, 3)
