"""A pool's status for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from executor_api.domain.pool import PoolStatus

_IDLE = PoolStatus(
    template="default", digest="d1", desired=2, ready=2, starting=0, taken=0, hits=0, waits=0, misses=0, conflicts=0
)


def pool(**changes: Any) -> PoolStatus:
    """A pool of two that both wait, with these fields changed."""
    return replace(_IDLE, **changes)
