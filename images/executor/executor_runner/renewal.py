"""Makes a sandbox fit for another call of its tenant, or finds a reason to doubt that it is."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from executor_runner import linux
from executor_runner.census import read_small, resident_bytes
from executor_runner.place import Place
from executor_runner.removal import empty_folder
from executor_runner.standing import Standing, standing

_WIPE_SECONDS = 1.0
"""A call waits for what the one before it left to be deleted; more than that takes a new sandbox."""
_SYSTEM_V = tuple(f"/proc/sysvipc/{kind}" for kind in ("shm", "sem", "msg"))


class DoubtError(Exception):
    """Something of a call may be left; the sandbox must not be used again."""


class Renewal:
    """Looks after one sandbox. ``scratch``: folders beside the workspace that a call can write to, and nobody else."""

    def __init__(self, place: Place, scratch: Sequence[Path]) -> None:
        self._place = place
        self._scratch = scratch
        self._memory: int | None = None  # in use at the first renewal
        self._standing: Standing | None = None

    def before_a_call(self) -> None:
        """Note what must be the same after it."""
        if self._standing is None and linux.ON_LINUX:
            self._standing = standing(os.getpid())
            self._place.workspace.remember()

    def renew(self, memory_limit: int | None) -> None:
        """Wipe what the call left behind its processes, which have ended. Raises `DoubtError` and ``OSError``."""
        self._check_processes()
        self._check_standing()
        self._check_memory(memory_limit)
        self._check_gpus()
        self._check_system_v()
        until = time.monotonic() + _WIPE_SECONDS
        for folder in self._scratch:
            empty_folder(folder, until)
        self._place.workspace.renew(until)

    def _check_processes(self) -> None:
        if not self._place.tree.adopts:
            raise DoubtError("what left the process group can't be found here")
        self._place.reaper.reap()
        if not self._place.reaper.none_left:
            raise DoubtError("a process is left")

    def _check_standing(self) -> None:
        zygote = self._place.reaper.zygote
        for pid in (os.getpid(), *((zygote.pid,) if zygote is not None else ())):
            if standing(pid) != self._standing:
                raise DoubtError("limits or priority of what stays have been changed")

    def _check_memory(self, limit: int | None) -> None:
        """A quarter of the limit is the most by which a sandbox may grow between its calls."""
        allowance = limit // 4 if limit is not None else None
        used = self._used_bytes((self._memory or 0) + (allowance or 0))
        if self._memory is None:
            self._memory = used
        elif allowance is not None and used > self._memory + allowance:
            raise DoubtError(f"memory has grown by {used - self._memory} bytes")

    def _used_bytes(self, worth_a_look: int) -> int:
        if self._place.group is not None:
            return self._place.group.used_bytes(worth_a_look if self._memory is not None else 0)
        return resident_bytes(os.getpid())[0]

    def _check_gpus(self) -> None:
        if self._place.gpus is not None and not self._place.gpus.free:
            raise DoubtError("memory of a GPU has not come back")

    def _check_system_v(self) -> None:
        """Shared memory, semaphores and queues outlive processes, but no IPC namespace, which PID 1 has of its own."""
        if os.getpid() != 1:
            return
        for path in _SYSTEM_V:
            if _lines(path) > 1:  # the first names the columns
                raise DoubtError(f"{path} is not empty")


def _lines(path: str) -> int:
    try:
        return read_small(path).count(b"\n")
    except OSError:
        return 0  # a kernel without them
