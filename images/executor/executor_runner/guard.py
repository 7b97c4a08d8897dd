"""Ends a call just before the kernel, the kubelet or the machine would have to: memory, processes, disk."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from executor_runner.census import proportional_bytes, resident_bytes, shared_memory_bytes
from executor_runner.cgroup import MemoryGroup
from executor_runner.process import Tree
from executor_runner.protocol.shapes import Cause, Limits

MIB = 1024 * 1024
FASTEST_GROWTH = 4 * 1024 * MIB
"""Bytes a second that a process may allocate while we do not look; decides how soon we look again."""
SHORTEST_POLL = 0.005
LONGEST_POLL = 0.05
MANY_PROCESSES = 200
"""From so many on we find out, each `FORK_POLL` seconds, whether the node's own limit is reached."""
FORK_POLL = 0.25
STORAGE_POLL = 0.25
"""Seconds between two walks over the disk."""
WALK_SLICE = 0.01
"""Seconds of a walk at a time: a million files must not keep us from the clock and the output."""
WALK_PAUSE = 0.04


class MemoryMeter(Protocol):
    """Measures the call's memory."""

    def used_bytes(self, worth_a_look: int) -> int:
        """Memory in use; exact only at and above ``worth_a_look``."""
        ...

    def peak_bytes(self) -> int:
        """The most it ever was, as far as known."""
        ...


class TreeMeter:
    """Memory of a process tree from /proc, where no control group counts it."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._peak = 0

    def used_bytes(self, worth_a_look: int) -> int:
        """All processes' own memory; where more than that might be much, shared memory too, and each page once."""
        pids = self._tree.pids()
        resident = [resident_bytes(pid) for pid in pids]
        used = sum(own for own, _ in resident)
        if used + sum(shared for _, shared in resident) >= worth_a_look:
            used += sum(shared_memory_bytes(pid) for pid in pids)
        if used >= worth_a_look:
            used = sum(proportional_bytes(pid) for pid in pids)
        self._peak = max(self._peak, used)
        return used

    def peak_bytes(self) -> int:
        """The most that was seen."""
        return self._peak


class Verdict(NamedTuple):
    """Which limit was broken, in one sentence."""

    cause: str
    message: str


class Guard:
    """Compares a running call with its limits."""

    def __init__(self, limits: Limits, tree: Tree, group: MemoryGroup | None, folders: list[Path]) -> None:
        self._limits = limits
        self._tree = tree
        self._disk = DiskMeter(folders)
        self._meter: MemoryMeter = group or TreeMeter(tree)
        self._threshold = _threshold(limits["memory_bytes"], kernel_enforces=group is not None)
        self._storage_due = 0.0
        self._fork_due = 0.0
        self.next_look = SHORTEST_POLL
        """Seconds until `look` should be called again."""

    def look(self) -> Verdict | None:
        """Measure once; a verdict ends the call."""
        return self._look_at_processes() or self._look_at_memory() or self._look_at_storage()

    def peak_bytes(self) -> int:
        """The most memory the call ever used, as far as known."""
        return self._meter.peak_bytes()

    def _look_at_processes(self) -> Verdict | None:
        count, most = len(self._tree.pids()), self._limits["processes"]
        if count > most:
            return Verdict(Cause.PROCESS_LIMIT, f"more than {most} processes at once")
        if count >= MANY_PROCESSES and time.monotonic() >= self._fork_due:
            self._fork_due = time.monotonic() + FORK_POLL
            if not _can_fork():
                return Verdict(Cause.PROCESS_LIMIT, f"{count} processes, and the kernel gives this sandbox no more")
        return None

    def _look_at_memory(self) -> Verdict | None:
        if self._threshold is None:
            self.next_look = LONGEST_POLL
            return None
        used = self._meter.used_bytes(self._threshold)
        if used >= self._threshold:
            limit = self._limits["memory_bytes"] or 0
            return Verdict(Cause.OUT_OF_MEMORY, f"{used // MIB} MiB in use of a memory limit of {limit // MIB} MiB")
        self.next_look = min(LONGEST_POLL, max(SHORTEST_POLL, (self._threshold - used) / FASTEST_GROWTH))
        return None

    def _look_at_storage(self) -> Verdict | None:
        limit = self._limits["storage_bytes"]
        if limit is None or time.monotonic() < self._storage_due:
            return None
        used = self._disk.walk(time.monotonic() + WALK_SLICE)
        self._storage_due = time.monotonic() + (STORAGE_POLL if self._disk.complete else WALK_PAUSE)
        if used <= limit:
            return None
        return Verdict(Cause.STORAGE_LIMIT, f"{used // MIB} MiB on disk of a limit of {limit // MIB} MiB")


def _can_fork() -> bool:
    """Whether the kernel still gives a process. A pod's limit of processes is nowhere to be read inside of it."""
    try:
        pid = os.fork()
    except OSError:
        return False
    if pid == 0:
        os._exit(0)
    return True


class DiskMeter:
    """Walks folders over and over, a slice of time at a time, and adds up what the files occupy."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders
        self._files: Iterator[int] = iter(())
        self._total = 0
        self.complete = True

    def walk(self, until: float) -> int:
        """Go on until that instant of the monotonic clock; returns the bytes of this walk so far."""
        if self.complete:
            self._files = itertools.chain.from_iterable(map(file_sizes, self._folders))
            self._total, self.complete = 0, False
        for size in self._files:
            self._total += size
            if time.monotonic() >= until:
                return self._total
        self.complete = True
        return self._total


def file_sizes(folder: Path) -> Iterator[int]:
    """Yield the bytes that each file below a folder occupies. What vanishes or can't be read meanwhile is nothing."""
    stack, seen = [str(folder)], set[tuple[int, int]]()
    while stack:
        with contextlib.suppress(OSError), os.scandir(stack.pop()) as entries:
            for entry in entries:
                yield _occupied(entry, stack, seen)


def _occupied(entry: os.DirEntry[str], stack: list[str], seen: set[tuple[int, int]]) -> int:
    """Bytes of a file, once whatever its number of names; a folder is put on the stack."""
    try:
        if entry.is_dir(follow_symlinks=False):
            stack.append(entry.path)
            return 0
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    if found.st_nlink > 1:
        if (found.st_dev, found.st_ino) in seen:
            return 0
        seen.add((found.st_dev, found.st_ino))
    return found.st_blocks * 512


def _threshold(limit: int | None, *, kernel_enforces: bool) -> int | None:
    """Where the kernel enforces the limit we must be first, or it may take the runner, and the output, with it."""
    if limit is None:
        return None
    return limit - max(limit // 20, min(32 * MIB, limit // 4)) if kernel_enforces else limit
