"""Who is alive in this sandbox, from /proc. ``stat`` and ``statm`` never wait for a process in D state."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

_PSS_KEYS = (b"Pss_Anon:", b"Pss_Shmem:")
PAGE = os.sysconf("SC_PAGE_SIZE")
_MOST = 16 * 1024


class Process(NamedTuple):
    """One process as ``/proc/PID/stat`` tells it. State is the kernel's letter; Z is a zombie."""

    pid: int
    parent: int
    state: str
    group: int


def processes(proc: str = "/proc") -> Iterator[Process]:
    """Yield every process visible there. One that ends while we look is left out."""
    try:
        names = os.listdir(proc)
    except OSError:  # no /proc: macOS
        return
    for name in names:
        if name.isdigit():
            process = _read_process(proc, int(name))
            if process is not None:
                yield process


def descendants(root: int, proc: str = "/proc") -> list[Process]:
    """Every process below ``root``, at any depth, without itself."""
    children: dict[int, list[Process]] = {}
    for process in processes(proc):
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += [process.pid for process in below]
    return found


def resident_bytes(pid: int, proc: str = "/proc") -> tuple[int, int]:
    """Resident memory of a process, cheaply: its own (pages shared by fork count each time), and of files or shared."""
    try:
        _, resident, shared, *_ = read_small(f"{proc}/{pid}/statm").split()
    except (OSError, ValueError):
        return 0, 0
    return (int(resident) - int(shared)) * PAGE, int(shared) * PAGE


def shared_memory_bytes(pid: int, proc: str = "/proc") -> int:
    """Shared memory that a process has touched, less cheaply; no pages of files."""
    try:
        lines = read_small(f"{proc}/{pid}/status").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(b"RssShmem:"))


def proportional_bytes(pid: int, proc: str = "/proc") -> int:
    """Memory of a process, shared pages split among their users (PSS). Dear: walks its page tables."""
    try:
        lines = read_small(f"{proc}/{pid}/smaps_rollup").splitlines()
    except OSError:
        return 0
    return sum(int(item.split()[1]) * 1024 for item in lines if item.startswith(_PSS_KEYS))


def read_small(path: str) -> bytes:
    """What the kernel tells in one read, without what a file object costs. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _MOST)
    finally:
        os.close(descriptor)


def _read_process(proc: str, pid: int) -> Process | None:
    try:
        text = read_small(f"{proc}/{pid}/stat")
    except OSError:
        return None
    fields = text[text.rfind(b")") + 2 :].split()  # the name before may hold spaces and brackets
    return Process(pid, int(fields[1]), fields[0].decode(), int(fields[2]))
