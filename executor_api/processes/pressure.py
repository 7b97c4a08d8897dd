"""How near the machine is to its limits of tasks and of open descriptors."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from executor_api.processes.process_table import PROC


class Usage(NamedTuple):
    """So many of at most so many."""

    used: int
    limit: int

    @property
    def share(self) -> float:
        """1 is all of it. What may have none at all is full."""
        return self.used / self.limit if self.limit else 1.0


class Pressure(NamedTuple):
    """Figures of the whole machine; None where it does not tell."""

    threads: Usage | None
    """Threads of all processes, zombies with them, against ``threads-max``."""
    pids: Usage | None
    """The same against ``pid_max``: each thread takes a number."""
    descriptors: Usage | None
    """Open files of all processes against ``file-max``."""


def read_pressure(proc: str = PROC) -> Pressure:
    """Read it: four small files."""
    load, files = _words(proc, "loadavg"), _words(proc, "sys/fs/file-nr")
    threads = load[3].partition("/")[2] if len(load) > 3 else ""  # noqa: PLR2004 - "0.1 0.2 0.3 running/all newest"
    return Pressure(
        threads=_usage(threads, *_words(proc, "sys/kernel/threads-max")),
        pids=_usage(threads, *_words(proc, "sys/kernel/pid_max")),
        descriptors=_usage(*files[::2]),  # opened, free (always 0 today), at most
    )


def _words(proc: str, name: str) -> list[str]:
    try:
        return Path(proc, name).read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return []


def _usage(*figures: str) -> Usage | None:
    try:
        used, limit = map(int, figures)
    except ValueError:
        return None
    return Usage(used, limit)
