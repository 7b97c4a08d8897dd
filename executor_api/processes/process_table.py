"""One look at all processes of a machine, cheap enough to be taken at 30,000 of them.

``/proc/PID/stat`` is the one file read for each: it never waits for a process in D state, as ``cmdline`` and others
that need its memory map may.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
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
    pids, zombies, stuck, orphans = [], [], [], 0
    for pid, text in _read_all(proc):
        pids.append(pid)
        state = _behind_name(text)
        if text[state : state + 1] in (b"Z", b"D") or text.startswith(_INIT, state + 2):
            process = _parse(pid, text)
            if process.state == ZOMBIE:
                zombies.append(process)
            elif process.state == STUCK:
                stuck.append(process)
            orphans += process.parent == 1 and process.session != pid
    return ProcessTable(pids, zombies, stuck, orphans)


def read_tree(root: int, proc: str = PROC) -> list[Process]:
    """Read this process and all below it. Raises ``OSError`` where there is no such folder.

    It costs as much as the whole table: a process tells its parent, and few kernels its children.
    """
    texts = dict(_read_all(proc))
    children: dict[int, list[int]] = {}
    for pid, text in texts.items():
        state = _behind_name(text)
        children.setdefault(int(text[state + 2 : text.index(b" ", state + 2)]), []).append(pid)
    found = [root] if root in texts else []
    for pid in found:  # grows as it goes
        found += children.pop(pid, ())
    return [_parse(pid, texts[pid]) for pid in found]


def read_process(pid: int, proc: str = PROC) -> Process | None:
    """Read one process; None if there is none."""
    text = _read_stat(f"{proc}/{pid}/stat")
    return _parse(pid, text) if text else None


def _read_all(proc: str) -> Iterator[tuple[int, bytes]]:
    here = os.open(proc, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(here):  # noqa: PTH208 - by descriptor
            if name.isdigit():
                text = _read_stat(name + "/stat", here)
                if text:
                    yield int(name), text
    finally:
        os.close(here)


def _read_stat(path: str, here: int | None = None) -> bytes:
    """Empty if the process has ended."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=here)
    except OSError:
        return b""
    try:
        return os.read(descriptor, _MOST)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _behind_name(text: bytes) -> int:
    """Where the state is: the name before it may hold spaces and brackets."""
    return text.rfind(b")") + 2


def _parse(pid: int, text: bytes) -> Process:
    name = text[text.find(b"(") + 1 : text.rfind(b")")].decode(errors="replace")
    fields = text[_behind_name(text) :].split(b" ", 20)
    return Process(
        pid,
        parent=int(fields[1]),
        name=name,
        state=fields[0].decode(),
        session=int(fields[3]),
        threads=int(fields[17]),
        started=int(fields[19]),
    )
