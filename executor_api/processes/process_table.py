"""One look at all processes of a machine, cheap enough to be taken at 30,000 of them.

``/proc/PID/stat`` is the one file read for each: it never waits for a process in D state, as ``cmdline`` and others
that need its memory map may.
"""

from __future__ import annotations

import os
from typing import NamedTuple

PROC = "/proc"
ZOMBIE, STUCK = "Z", "D"
_MOST = 4096
_INIT = b"1 "
"""How the fields behind the state begin for a child of init."""


class Process(NamedTuple):
    """One process as ``stat`` tells it. ``state`` is the kernel's letter, ``started`` is in clock ticks since boot."""

    pid: int
    parent: int
    name: str
    state: str
    session: int
    threads: int
    started: int


class ProcessTable(NamedTuple):
    """What one look found. Only processes that something is wrong with are kept one by one."""

    pids: list[int]
    zombies: list[Process]
    stuck: list[Process]
    """In uninterruptible sleep (D state) just then; most wait for a disk and are through in milliseconds."""
    orphans: int
    """Adopted by init: its children that lead no session of their own, as a daemon would."""


def read_table(proc: str = PROC) -> ProcessTable:
    """Read it. Raises ``OSError`` where there is no such folder; a process that ends meanwhile is left out."""
    here = os.open(proc, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _read(here)
    finally:
        os.close(here)


def read_process(pid: int, proc: str = PROC) -> Process | None:
    """Read one process; None if there is none."""
    try:
        descriptor = os.open(f"{proc}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _parse(pid, os.read(descriptor, _MOST))
    except OSError:
        return None  # it ended between opening and reading
    finally:
        os.close(descriptor)


def _read(here: int) -> ProcessTable:
    pids, zombies, stuck, orphans = [], [], [], 0
    flags = os.O_RDONLY | os.O_CLOEXEC
    for name in os.listdir(here):
        if not name.isdigit():
            continue
        try:
            descriptor = os.open(name + "/stat", flags, dir_fd=here)
        except OSError:
            continue
        try:
            text = os.read(descriptor, _MOST)
        except OSError:
            continue
        finally:
            os.close(descriptor)
        pid = int(name)
        pids.append(pid)
        behind = text.rfind(b")") + 2  # the name before may hold spaces and brackets
        if text[behind : behind + 1] in (b"Z", b"D") or text.startswith(_INIT, behind + 2):
            process = _parse(pid, text)
            if process.state == ZOMBIE:
                zombies.append(process)
            elif process.state == STUCK:
                stuck.append(process)
            orphans += process.parent == 1 and process.session != pid
    return ProcessTable(pids, zombies, stuck, orphans)


def _parse(pid: int, text: bytes) -> Process:
    name = text[text.find(b"(") + 1 : text.rfind(b")")].decode(errors="replace")
    fields = text[text.rfind(b")") + 2 :].split(b" ", 20)
    return Process(
        pid,
        parent=int(fields[1]),
        name=name,
        state=fields[0].decode(),
        session=int(fields[3]),
        threads=int(fields[17]),
        started=int(fields[19]),
    )
