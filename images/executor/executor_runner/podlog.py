"""Writes the second and third copy of a result: the pod's log, line by line, and the termination message."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import cast

from executor_runner.loop import Loop
from executor_runner.protocol import TERMINATION_LIMIT, podlog
from executor_runner.protocol.frames import FrameKind
from executor_runner.protocol.shapes import Report

_SOON = 0.25
"""Seconds for which lines are gathered: each write wakes the container runtime, just when calls need their node.

So much of the log may be lost with the whole pod, but never an end that no reader was sent, nor that of a call before.
"""
_DETAILS = ("value_json", "exception", "artifacts_skipped")
_SHORT_MESSAGE = 200
"""Characters; one may take 14 bytes, escaped twice."""


class PodLog:
    """A journal listener. Its descriptor must never block us, so what it can't take yet waits here."""

    def __init__(self, loop: Loop, descriptor: int, token: str, termination_log: Path) -> None:
        os.set_blocking(descriptor, False)
        self._loop = loop
        self._descriptor = descriptor
        self._token = token
        self._termination_log = termination_log
        self._pending = bytearray()
        self._due = False

    def __call__(self, kind: FrameKind, payload: bytes) -> None:
        """Take one frame of the journal."""
        if kind is FrameKind.REPORT:
            os.sched_yield()  # to whoever has just been sent it, and may wait for this very processor
            report = cast("Report", json.loads(payload))
            self._write_termination_message(report)
            self._pending += podlog.render_end(self._token, report)
        else:
            for line in podlog.render(kind, payload):
                self._pending += line
        if self._pending and not self._due:
            self._due = True
            self._loop.call_later(_SOON, self._flush)

    def flush(self) -> bool:
        """Write what waits, now. False if some of it must wait for whoever takes it."""
        self._flush()
        return not self._pending

    def _flush(self) -> None:
        self._due = False
        try:
            while self._pending:
                del self._pending[: os.write(self._descriptor, self._pending)]
        except BlockingIOError:
            self._loop.watch(self._descriptor, write=self._flush)
            return
        except OSError:
            self._pending.clear()  # nobody keeps our log
        self._loop.watch(self._descriptor)

    def _write_termination_message(self, report: Report) -> None:
        """The report without its large parts: it replaces whatever the call may have written there."""
        text = podlog.sealed(self._token, report)
        if len(text) > TERMINATION_LIMIT:
            short = {key: value for key, value in report.items() if key not in _DETAILS}
            short["message"] = report["message"][:_SHORT_MESSAGE]
            text = podlog.sealed(self._token, cast("Report", short))
        try:
            self._termination_log.write_bytes(text)
        except OSError:
            return  # outside a pod
