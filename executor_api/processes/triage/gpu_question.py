"""Asks GPU drivers in a process of its own: who has asked one in trouble may never end, or crash in its library."""

from __future__ import annotations

import os
import select
import shlex
import signal
import sys
import time
from contextlib import suppress
from typing import Any, Self

from executor_api.processes.triage.facts import Unanswered

_DRIVER_SECONDS = 6.0
"""So long drivers have to answer, from the start of the look on. The first question of all takes NVIDIA's a second or
two where nothing keeps it awake."""
_BURIAL_SECONDS, _PAUSE = 0.5, 0.002


class GpuQuestion:
    """Asks from its start on. Leave it to have nothing left of it, but for a process that no signal reaches."""

    def __init__(self, proc: str) -> None:
        self._deadline = time.monotonic() + _DRIVER_SECONDS
        self._answer, theirs = os.pipe()
        self._pid: int | None = None
        self._status: int | None = None  # once it has ended
        command = [sys.executable, "-P", "-m", "executor_api.processes.gpu", proc]
        self._command = shlex.join(command)
        nowhere = ((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 2))
        with suppress(OSError):  # no process can be started
            self._pid = os.posix_spawn(
                sys.executable, command, os.environ, file_actions=[*nowhere, (os.POSIX_SPAWN_DUP2, theirs, 1)]
            )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._answer)
        if self._pid is not None and self._status is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            _status_by(time.monotonic() + _BURIAL_SECONDS, self._pid)  # one in D state is left to init

    def answer(self) -> dict[str, Any] | Unanswered:
        """What it says, or how it comes that it says nothing."""
        import json  # noqa: PLC0415 - only where there are GPUs

        if self._pid is None:
            return {"devices": [], "problem": "no process could be started to ask the driver", "uncounted": 0}
        with suppress(ValueError):
            found: dict[str, Any] = json.loads(self._words())
            return Unanswered(self._command, error=found["error"]) if "error" in found else found
        self._status = _status_by(self._deadline, self._pid)
        if self._status is None:
            return Unanswered(self._command)
        code = os.waitstatus_to_exitcode(self._status)
        if code < 0:
            return Unanswered(self._command, signal=-code)
        return Unanswered(self._command, error=f"exit code {code}, without an answer")

    def _words(self) -> bytes:
        text = b""
        while select.select([self._answer], [], [], max(0.0, self._deadline - time.monotonic()))[0]:
            piece = os.read(self._answer, 1 << 16)
            if not piece:
                break
            text += piece
        return text


def _status_by(deadline: float, pid: int) -> int | None:
    """How a process ended, or None: one that has closed its answer may still close the driver's devices."""
    try:
        while (found := os.waitpid(pid, os.WNOHANG)) == (0, 0):
            if time.monotonic() > deadline:
                return None
            time.sleep(_PAUSE)
    except ChildProcessError:
        return 0  # we were started with SIGCHLD ignored: the kernel has collected it
    return found[1]
