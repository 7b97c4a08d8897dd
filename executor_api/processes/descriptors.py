"""Open descriptors of single processes against the limit of each."""

from __future__ import annotations

import os
from pathlib import Path

from executor_api.processes.pressure import Usage
from executor_api.processes.process_table import PROC
from executor_api.processes.survey import Survey

_FEW = 100
"""Whoever has fewer is not asked for its limit."""
_WORST = 50
"""Processes read at every look: more than are shown, as many of them may run the same command."""
_COUNTED, _LISTED = 2000, 200
"""Processes a look: where the kernel tells their number, and where they have to be listed."""


def descriptor_survey(proc: str = PROC) -> Survey[int]:
    """Which processes have most of the descriptors that they may have, by pid.

    Listing takes the right to look into the process; that of others, root's.
    """
    counted = _tells_number(proc)

    def read(pid: int) -> Usage | None:
        folder = f"{proc}/{pid}/fd"
        try:
            number = os.stat(folder).st_size if counted else len(os.listdir(folder))  # noqa: PTH116, PTH208 - hot
            return Usage(number, _limit(proc, pid)) if number >= _FEW else None
        except (OSError, ValueError):
            return None

    return Survey(read, _COUNTED if counted else _LISTED, _WORST)


def _tells_number(proc: str) -> bool:
    """Whether the size of the folder is the number of descriptors, as since Linux 6.2."""
    own = Path(proc, "self", "fd")
    try:  # listing has the folder open as well; and another thread may open something in between
        return any(own.stat().st_size == len(os.listdir(own)) - 1 for _ in range(3))  # noqa: PTH208
    except OSError:
        return False


def _limit(proc: str, pid: int) -> int:
    """The soft one. Raises ``OSError``, and ``ValueError`` if there is none."""
    text = Path(proc, str(pid), "limits").read_bytes()
    return int(text.partition(b"Max open files")[2].split(maxsplit=1)[0])
