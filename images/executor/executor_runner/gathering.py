"""Sends the frames of a journal in company: each send wakes the service, and most calls are over in milliseconds."""

from __future__ import annotations

from collections.abc import Callable

from executor_runner.loop import Loop
from executor_runner.protocol.frames import FrameKind

_SECONDS = 0.005
"""How long a frame waits for others."""


class Gathering:
    """A journal listener that has ``send`` called: soon after a frame, and at once for the report."""

    def __init__(self, loop: Loop, send: Callable[[], None]) -> None:
        self._loop = loop
        self._send = send
        self._due = False

    def __call__(self, kind: FrameKind, _payload: bytes) -> None:
        """Take note of one frame."""
        if kind is FrameKind.REPORT:
            self._send()
        else:
            self.send_soon()

    def send_soon(self) -> None:
        """Have it sent, with what comes until then."""
        if not self._due:
            self._due = True
            self._loop.call_later(_SECONDS, self._send_gathered)

    def _send_gathered(self) -> None:
        self._due = False
        self._send()
