"""The report of a made-up call."""

from __future__ import annotations

from typing import Any

from executor_runner.protocol.shapes import Report


def report(execution_id: str = "e1", **fields: Any) -> Report:
    """A report of a call that ended well and printed nothing, unless ``fields`` say otherwise."""
    found: Report = {
        "version": 1,
        "execution_id": execution_id,
        "cause": None,
        "message": "",
        "exit_code": 0,
        "signal": None,
        "stdout_bytes": 0,
        "stderr_bytes": 0,
        "stdout_dropped_bytes": 0,
        "stderr_dropped_bytes": 0,
        "run_ms": 1.5,
        "collect_ms": 0.5,
        "usage": {"cpu_seconds": 0.01, "peak_memory_bytes": 4096},
        "processes": {"left_behind": 0, "zombies": 0, "unkillable": 0},
    }
    return Report(**{**found, **fields})  # type: ignore[typeddict-item]
