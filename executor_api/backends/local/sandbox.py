"""A sandbox on this machine: a socket to its runner. It lives and dies with the service."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

from executor_api.backends.base import ConnectionLostError, LastWords, SandboxTimings
from executor_api.domain.execution import SandboxDetails, Start
from executor_api.domain.outcome import Evidence, Reason
from executor_runner.protocol.local import CANCEL, encode_call

_READ = 64 * 1024
"""Bytes of one read: what malloc serves without asking the kernel for memory each time."""
_LOST = Evidence(Reason.SANDBOX_LOST, "the runner ended without a report: it was killed, or the service was stopped")


class LocalSandbox:
    """One call's process tree, behind a connected socket."""

    def __init__(self, name: str, sock: socket.socket, start: Start, timings: SandboxTimings) -> None:
        self._sock = sock
        self._sending = asyncio.Lock()
        self._dispatched = False
        self.details = SandboxDetails(name=name, backend="local")
        self.start = start
        self.follows = ""
        self.timings = timings

    async def ready(self) -> None:
        """It is ready when it exists."""

    async def dispatch(self, call: bytes) -> AsyncIterator[bytes]:
        """Send the call, yield its journal. Raises `ConnectionLostError`."""
        self._dispatched = True
        loop = asyncio.get_running_loop()
        try:
            await self._send(encode_call(call))
            while data := await loop.sock_recv(self._sock, _READ):
                yield data
        except OSError as error:
            raise ConnectionLostError(f"the runner's socket broke: {error}") from error

    def resume(self, offset: int) -> AsyncIterator[bytes]:
        """There is no second connection. Raises `ConnectionLostError`."""
        raise ConnectionLostError(f"a local sandbox has one connection; nothing to resume at {offset}")

    async def cancel(self) -> None:
        """Tell the runner. Raises `ConnectionLostError`."""
        if not self._dispatched:
            raise ConnectionLostError("the runner has no call yet")
        try:
            await self._send(CANCEL)
        except OSError as error:
            raise ConnectionLostError(f"the runner's socket broke: {error}") from error

    async def alive(self) -> bool:
        """Until its one connection is used; when that ends, so does everything behind it."""
        return not self._dispatched

    async def last_words(self) -> LastWords:
        """A local sandbox leaves nothing but what it sent."""
        return LastWords(_LOST)

    async def evidence(self) -> Evidence | None:
        """Only the service itself ends a local sandbox from outside."""
        return None

    async def release(self, *, sound: bool = False) -> None:
        """Close the socket; what still runs behind it is killed."""
        del sound
        self._sock.close()

    async def _send(self, data: bytes) -> None:
        async with self._sending:  # a cancel waits until the whole call is sent
            await asyncio.get_running_loop().sock_sendall(self._sock, data)
