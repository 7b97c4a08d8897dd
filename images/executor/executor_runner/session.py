"""The runner's face on the local backend: `protocol.local` over one connected socket."""

from __future__ import annotations

import contextlib
import socket

from executor_runner.gathering import Gathering
from executor_runner.journal import Journal
from executor_runner.loop import Loop
from executor_runner.protocol.local import CANCEL, REFUSED, decode_call
from executor_runner.runner import AlreadyClaimedError, Runner

_READ = 64 * 1024
"""Bytes of one read: what malloc serves without asking the kernel for memory each time."""
_REFUSE_SECONDS = 1.0
"""How long a refusal waits for room behind a large journal; nothing else is left to do."""


class Session:
    """Serves one runner over one socket and stops the loop when the service closes it."""

    def __init__(self, loop: Loop, runner: Runner, sock: socket.socket) -> None:
        self._loop = loop
        self._runner = runner
        self._sock = sock
        self._input = bytearray()
        self._journal: Journal | None = None
        self._offset = 0
        self._over = False
        runner.on_idle_end = runner.on_retired = self._refuse_soon
        sock.settimeout(0)
        loop.watch(sock.fileno(), read=self._on_readable)

    def _on_readable(self) -> None:
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.stop()
            return
        self._input += data
        if (self._journal is None or self._journal.complete) and not self._took_call():
            return
        if CANCEL in self._input:
            self._runner.cancel()
        self._input.clear()

    def _took_call(self) -> bool:
        while self._input.startswith(CANCEL):  # of the call before
            del self._input[0]
        decoded = decode_call(self._input)
        if decoded is None:
            return False
        body, self._input[:] = decoded
        try:
            self._runner.claim(body, self._attach)
        except AlreadyClaimedError:
            self._refuse_soon()
        return True

    def _attach(self, journal: Journal) -> None:
        self._journal, self._offset = journal, 0
        journal.add_listener(Gathering(self._loop, self._send))

    def _send(self) -> None:
        try:
            while self._journal is not None and (data := self._journal.read(self._offset, _READ)):
                self._offset += self._sock.send(data)
            if self._over:
                self._refuse()
        except BlockingIOError:
            self._loop.watch(self._sock.fileno(), read=self._on_readable, write=self._send)
            return
        except OSError:
            self._loop.stop()
            return
        # When it has all, the service closes. To sleep until then lets it run before our own end is worked off.
        self._loop.watch(self._sock.fileno(), read=self._on_readable)

    def _refuse_soon(self) -> None:
        """There will be no (further) call; what a journal still has to say goes first."""
        self._over = True
        self._loop.call_later(0, self._send)

    def _refuse(self) -> None:
        """A call that is on its way must not seem taken."""
        self._over = False  # said once
        with contextlib.suppress(OSError):
            while self._sock.recv(_READ):
                pass
        with contextlib.suppress(OSError):
            self._sock.settimeout(_REFUSE_SECONDS)
            self._sock.send(REFUSED)
        self._loop.stop()
