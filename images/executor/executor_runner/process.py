"""The processes of a sandbox as one thing: counted, signalled and reaped together, whatever sessions they made."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from dataclasses import dataclass
from typing import Protocol

from executor_runner.census import descendants, processes

_STOP_ROUNDS = 50
"""A fork bomb outside a PID namespace is frozen first; each round catches what was born in the one before."""


class Tree(Protocol):
    """Every process of the sandbox but the runner."""

    def pids(self) -> list[int]:
        """Pids of all of them, zombies included."""
        ...

    def signal_all(self, number: int) -> None:
        """Send a signal to all of them."""
        ...

    def kill_all(self) -> None:
        """Send SIGKILL so that none escapes by forking."""
        ...


class NamespaceTree:
    """The tree of a runner that is PID 1: the kernel signals all at once, atomically against fork."""

    def pids(self) -> list[int]:
        """Pids in this PID namespace."""
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]

    def signal_all(self, number: int) -> None:
        """One kill(-1): it spares PID 1."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, number)

    def kill_all(self) -> None:
        """One kill(-1, SIGKILL)."""
        self.signal_all(signal.SIGKILL)


class DescendantTree:
    """The tree of a subreaper: found by walking /proc."""

    def pids(self) -> list[int]:
        """Pids of all descendants."""
        return [process.pid for process in descendants(os.getpid())]

    def signal_all(self, number: int) -> None:
        """Signal each."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def kill_all(self) -> None:
        """Stop until none is new, then kill."""
        seen: set[int] = set()
        for _ in range(_STOP_ROUNDS):
            new = set(self.pids()) - seen
            if not new:
                break
            seen |= new
            self.signal_all(signal.SIGSTOP)
        self.signal_all(signal.SIGKILL)


class GroupTree:
    """Without /proc and subreapers (macOS): the child's process group. What leaves the group escapes."""

    def __init__(self, leader: int) -> None:
        self._leader = leader

    def pids(self) -> list[int]:
        """The leader while it lives."""
        return [self._leader]

    def signal_all(self, number: int) -> None:
        """Signal the group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._leader, number)

    def kill_all(self) -> None:
        """Kill the group."""
        self.signal_all(signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended: exactly one of the two is set."""

    exit_code: int | None
    signal: int | None


class Reaper:
    """Owns every wait of this process, so that no status is stolen."""

    def __init__(self) -> None:
        self.endings: dict[int, Ending] = {}
        self.reaped = 0
        self.none_left = False

    def reap(self) -> None:
        """Collect all that have ended; SIGCHLD coalesces, so until there is none."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.none_left = True
                return
            if pid == 0:
                self.none_left = False
                return
            self.reaped += 1
            code = os.waitstatus_to_exitcode(status)
            self.endings[pid] = Ending(code, None) if code >= 0 else Ending(None, -code)

    @staticmethod
    def cpu_seconds() -> float:
        """CPU time of every process reaped so far and of those they reaped."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    @staticmethod
    def largest_bytes() -> int:
        """The largest resident set of any one of them."""
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def count_zombies(pids: list[int]) -> int:
    """How many of these are zombies now."""
    wanted = set(pids)
    return sum(process.state == "Z" for process in processes() if process.pid in wanted)
