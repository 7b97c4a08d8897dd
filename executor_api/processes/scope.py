"""What one look sees: the processes of the whole machine, or one process and what it started."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from executor_api.processes.cgroups import CGROUPS, list_cgroups, own_cgroups, pids_root
from executor_api.processes.pressure import Pressure, read_pressure
from executor_api.processes.process_table import PROC, STUCK, ZOMBIE, Process, read_table, read_tree

_CGROUPS_LIVE_LOOKS = 10
"""So many looks are taken at the same list of cgroups."""


class Seen(NamedTuple):
    """What was there. ``orphans`` were adopted by init; None where init is not looked at."""

    pids: list[int]
    zombies: list[Process]
    stuck: list[Process]
    orphans: int | None
    threads: int | None
    pressure: Pressure | None
    cgroups: list[str]


class Scope(Protocol):
    """Whose processes are looked at."""

    proc: str
    cgroups_root: str

    def look(self) -> Seen:
        """Read them. Raises ``OSError`` if ``proc`` can't be read."""
        ...  # pragma: no cover


class Machine:
    """All that ``proc`` shows."""

    def __init__(self, proc: str = PROC, cgroups: str = CGROUPS) -> None:
        self.proc = proc
        self.cgroups_root = pids_root(cgroups)
        self._looks = 0
        self._cgroups: list[str] = []

    def look(self) -> Seen:
        """Read them."""
        if self._looks % _CGROUPS_LIVE_LOOKS == 0:
            self._cgroups = list_cgroups(self.cgroups_root)
        self._looks += 1
        pids, zombies, stuck, orphans = read_table(self.proc)
        pressure = read_pressure(self.proc)
        threads = pressure.pids.used if pressure.pids else None
        return Seen(pids, zombies, stuck, orphans, threads, pressure, self._cgroups)


class Tree:
    """One process and all below it, and the cgroups that it is in."""

    def __init__(self, pid: int, proc: str = PROC, cgroups: str = CGROUPS) -> None:
        self._pid = pid
        self.proc = proc
        self.cgroups_root = pids_root(cgroups)
        self._cgroups = own_cgroups(self.cgroups_root, pid, proc)

    def look(self) -> Seen:
        """Read them."""
        tree = read_tree(self._pid, self.proc)
        zombies = [process for process in tree if process.state == ZOMBIE]
        stuck = [process for process in tree if process.state == STUCK]
        threads = sum(process.threads for process in tree)
        return Seen([process.pid for process in tree], zombies, stuck, None, threads, None, self._cgroups)
