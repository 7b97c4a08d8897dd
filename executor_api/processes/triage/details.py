"""Who a process is and what it waits for. Asked of few processes only: each answer is a file or more."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from executor_api.processes.process_table import Process, read_process
from executor_api.processes.triage.facts import Heed, Identity
from executor_api.processes.triage.reading import PatientReader, UnreadableError

_LONGEST = 400
_NOBODY = "a process outside this container"
"""Who has the number 0: the parent of what was put into a container from outside."""
_TICKS = os.sysconf("SC_CLK_TCK")
_SIGCHLD = 1 << (signal.SIGCHLD - 1)


class Details:
    """Reads them below ``proc``."""

    def __init__(self, proc: str, reader: PatientReader) -> None:
        self.proc = proc
        self.reader = reader
        self._known: dict[int, Identity] = {}

    def identity(self, pid: int) -> Identity:
        """Who it is; a process that is gone has no name but its number."""
        if pid not in self._known:
            process = read_process(pid, self.proc)
            self._known[pid] = self._identify(process) if process else Identity(pid, _NOBODY if pid == 0 else "gone")
        return self._known[pid]

    def text(self, pid: int | str, name: str) -> str | None:
        """A file of a process; None if it can't be read."""
        with suppress(UnreadableError):
            return self.reader.read(f"{self.proc}/{pid}", name).decode(errors="replace")
        return None

    def heed(self, pid: int) -> Heed:
        """How it takes SIGCHLD."""
        return read_heed(self.text(pid, "status"))

    def idle(self, process: Process) -> float | None:
        """Seconds since it last ran, right to some seconds: of a zombie, since it died. None if it is not told."""
        ran, now = _last_run(self.text(process.pid, "sched")), _last_run(self.text("self", "sched"))
        if ran is None or now is None:
            return None
        seconds = max(0.0, now - ran)  # each processor has this clock of its own, and stolen time is not in it
        uptime = (self.text(".", "uptime") or "").split()
        return min(seconds, float(uptime[0]) - process.started / _TICKS) if uptime else seconds

    def _identify(self, process: Process) -> Identity:
        folder = f"{self.proc}/{process.pid}"
        command, why_not = None, ""
        try:
            command = _command(self.reader.read(folder, "cmdline"))
        except UnreadableError as error:
            why_not = str(error)
        return Identity(
            process.pid,
            process.name,
            state=process.state,
            parent=process.parent,
            command=command,
            why_not=why_not,
            uid=_uid(self.text(process.pid, "status")),
            home=_home(self.text(process.pid, "cgroup")),
        )


def read_heed(status: str | None) -> Heed:
    """How the process with this ``status`` file takes SIGCHLD."""
    masks = {name: _mask(status or "", name) for name in ("SigIgn", "SigBlk", "SigCgt")}
    if None in masks.values():
        return Heed.UNKNOWN
    ways = (("SigIgn", Heed.IGNORES), ("SigBlk", Heed.BLOCKS), ("SigCgt", Heed.HANDLES))
    return next((heed for name, heed in ways if (masks[name] or 0) & _SIGCHLD), Heed.DEFAULT)


def _field(text: str, name: str) -> str | None:
    for line in text.splitlines():
        field, _, value = line.partition(":")
        if field.strip() == name:
            return value.strip()
    return None


def _mask(status: str, name: str) -> int | None:
    value = _field(status, name)
    return None if value is None else int(value, 16)


def _last_run(sched: str | None) -> float | None:
    value = _field(sched or "", "se.exec_start")
    return None if value is None else float(value) / 1000


def _uid(status: str | None) -> int | None:
    value = _field(status or "", "Uid")
    return None if value is None else int(value.split()[0])


def _command(text: bytes) -> str:
    return text[:_LONGEST].rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")


def _home(cgroup: str | None) -> str:
    """Its cgroup: where systemd or a container engine put it, whichever hierarchy that is told in."""
    found = {}
    for line in (cgroup or "").splitlines():
        _, controllers, path = line.split(":", 2)
        found[controllers] = path
    return next((path for path in (found.get(""), found.get("name=systemd")) if path and path != "/"), "")
