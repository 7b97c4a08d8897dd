"""How much one service takes on."""

from __future__ import annotations

from dataclasses import dataclass

from executor_api.domain.tenant import NO_LIMITS, Tenants


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one service takes on and keeps."""

    max_concurrency: int
    max_queue: int
    keep_seconds: float
    keep_bytes: int
    tenants: Tenants = NO_LIMITS
    """Of each tenant, at first: see `ExecutionService.limit`."""
    housekeeping_seconds: float = 60.0
    silent_seconds: float = 10.0
    """So long without a sign of life, a replica's executions are taken over by the others."""
