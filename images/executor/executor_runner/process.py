"""The processes of a sandbox as one thing: counted, signalled and reaped together, whatever sessions they made."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from pathlib import Path
from typing import NamedTuple, Protocol

from executor_runner import linux
from executor_runner.census import Process, descendants, processes
from executor_runner.zygote import Zygote

_PID_LIMIT = Path("/proc/sys/kernel/pid_max")
_RESERVED_PIDS = 340
"""The kernel does not give the lowest 300 numbers a second time; the rest is room to be noticed beyond the limit."""
_STOP_ROUNDS = 50
"""A fork bomb outside a PID namespace is frozen first; each round catches what was born in the one before."""
_CHILD_READS = 300
_QUIET_READS = 3
"""So many looks in a row that show no new child, and there is none for now."""


class Tree(Protocol):
    """Every process of the sandbox but the runner.

    ``adopts``: orphans of it become the runner's children, so that without a child there is no process left.
    """

    adopts: bool

    def pids(self) -> list[int]:
        """Pids of all of them, zombies included."""
        ...

    def limit(self, most: int) -> None:
        """Let the kernel refuse what goes far beyond ``most`` processes, where it can do that for this tree alone."""
        ...

    def signal_all(self, number: int) -> None:
        """Send a signal to all of them."""
        ...

    def kill_all(self) -> None:
        """Send SIGKILL, or have it sent, so that none escapes by forking."""
        ...


class NamespaceTree:
    """The tree of a runner that is PID 1: the kernel signals all at once, atomically against fork."""

    adopts = True

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self._has_limit = linux.pid_limit_is_per_namespace(os.uname().release) and _may_write(_PID_LIMIT)

    def pids(self) -> list[int]:
        """Pids in this PID namespace."""
        zygote = self._reaper.zygote
        ours = ("1", str(zygote.pid)) if zygote is not None else ("1",)
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and name not in ours]

    def limit(self, most: int) -> None:
        """Since Linux 6.14 each PID namespace has a limit of its own. Pods have the kubelet's, and may not set this."""
        if self._has_limit:  # else it would be the whole machine's
            with contextlib.suppress(OSError):
                _PID_LIMIT.write_text(str(most + _RESERVED_PIDS))

    def signal_all(self, number: int) -> None:
        """One kill(-1): it spares PID 1."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, number)

    def kill_all(self) -> None:
        """One kill(-1, SIGKILL): by the zygote, which it spares; by us if that was not enough."""
        zygote = self._reaper.zygote
        if zygote is None or not zygote.kill_others():
            self.signal_all(signal.SIGKILL)


class DescendantTree:
    """The tree of a subreaper: found by walking /proc."""

    adopts = True

    def processes(self) -> list[Process]:
        """All descendants."""
        return descendants(os.getpid())

    def pids(self) -> list[int]:
        """Pids of all descendants."""
        return [process.pid for process in self.processes()]

    def limit(self, most: int) -> None:
        """There is no such limit: the guard alone counts."""

    def signal_all(self, number: int) -> None:
        """Signal each."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def kill_all(self) -> None:
        """Kill by groups first, each at once and atomically against fork; stop what is left until none is new, kill."""
        seen: set[int] = set()
        for _ in range(_STOP_ROUNDS):
            found = self.processes()
            new = {process.pid for process in found} - seen
            if not new:
                break
            seen |= new
            for group in {process.group for process in found} - {0, os.getpgrp()}:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGKILL)
            self._kill_children()
            self.signal_all(signal.SIGSTOP)
        self.signal_all(signal.SIGKILL)

    def children(self) -> set[int]:
        """Pids of our own children; none where the kernel does not tell."""
        return own_children() or set()

    def _kill_children(self) -> None:
        """What forks and ends, over and over, becomes our child each time; a walk over /proc is too slow for it."""
        seen: set[int] = set()
        quiet = 0
        for _ in range(_CHILD_READS):
            new = self.children() - seen
            seen |= new
            quiet = 0 if new else quiet + 1
            if quiet == _QUIET_READS:
                break
            for pid in new:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)


class GroupTree:
    """Without /proc and subreapers (macOS): the child's process group. What leaves the group escapes."""

    adopts = False

    def __init__(self, leader: int) -> None:
        self._leader = leader

    def pids(self) -> list[int]:
        """The leader while it lives."""
        return [self._leader]

    def limit(self, most: int) -> None:
        """There is no such limit."""

    def signal_all(self, number: int) -> None:
        """Signal the group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._leader, number)

    def kill_all(self) -> None:
        """Kill the group."""
        self.signal_all(signal.SIGKILL)


class Ending(NamedTuple):
    """How a process ended: exactly one of the two is set."""

    exit_code: int | None
    signal: int | None


class Reaper:
    """Owns every wait of this process, so that no status is stolen."""

    def __init__(self) -> None:
        self.endings: dict[int, Ending] = {}
        self._childless = False
        self.zygote: Zygote | None = None
        """While it lives: a child that is not of the call."""
        self._not_of_calls = 0.0
        self.largest_bytes = 0
        """The largest resident set of any one process reaped since somebody set this to 0, or of those it reaped."""

    def reap(self) -> None:
        """Collect all that have ended; SIGCHLD coalesces, so until there is none."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self._childless = True
                return
            if pid == 0:
                self._childless = False
                return
            if self.zygote is not None and pid == self.zygote.pid:
                self.zygote = None
                self._not_of_calls += usage.ru_utime + usage.ru_stime
                continue
            self.largest_bytes = max(self.largest_bytes, usage.ru_maxrss * 1024)
            code = os.waitstatus_to_exitcode(status)
            self.endings[pid] = Ending(code, None) if code >= 0 else Ending(None, -code)

    @property
    def none_left(self) -> bool:
        """Whether there is no child but the zygote, as far as it has been reaped."""
        return self._childless or (self.zygote is not None and own_children() == {self.zygote.pid})

    def cpu_seconds(self) -> float:
        """CPU time of every process reaped so far and of those they reaped, but not of the zygote."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime - self._not_of_calls


def _may_write(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def own_children() -> set[int] | None:
    """Pids of this process's children, zombies too; None where the kernel does not tell.

    None of them is missed: only we could reap one while we read, and what is adopted meanwhile had its parent here.
    """
    pid = os.getpid()
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb", buffering=0) as file:
            return set(map(int, file.readall().split()))
    except OSError:
        return None


def count_zombies(pids: list[int]) -> int:
    """How many of these are zombies now."""
    wanted = set(pids)
    return sum(process.state == "Z" for process in processes() if process.pid in wanted)
