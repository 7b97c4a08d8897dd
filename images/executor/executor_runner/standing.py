"""What the kernel lets any process change of another one of its user: limits, priority, processors."""

from __future__ import annotations

import os
import resource
from typing import NamedTuple

_LIMITS = sorted({value for name, value in vars(resource).items() if name.startswith("RLIMIT_")})


class Standing(NamedTuple):
    """All of that, of one process."""

    limits: tuple[tuple[int, int], ...]
    processors: frozenset[int]
    policy: int
    niceness: int


def standing(pid: int) -> Standing:
    """That of the process now. Linux only. Raises ``OSError``."""
    return Standing(
        tuple(resource.prlimit(pid, kind) for kind in _LIMITS),
        frozenset(os.sched_getaffinity(pid)),
        os.sched_getscheduler(pid),
        os.getpriority(os.PRIO_PROCESS, pid),
    )
