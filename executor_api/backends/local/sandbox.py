"""A sandbox on this machine: a socket to its runner. It lives and dies with the service."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

from executor_api.backends.base import ConnectionLostError, LastWords, SandboxTimings
from executor_api.domain.execution import SandboxDetails, Start
from executor_api.domain.outcome import Evidence, Reason
from executor_runner.protocol.local import CANCEL, encode_call

_READ = 256 * 1024
_LOST = Evidence(Reason.SANDBOX_LOST, "the runner ended without a report: it was killed, or the service was stopped")


class LocalSandbox:
    """One call's process tree, behind a connected socket."""

    def __init__(self, name: str, sock: socket.socket, start: Start, timings: SandboxTimings) -> None:
        self._sock = sock
        self._writer: asyncio.StreamWriter | None = None
        self.details = SandboxDetails(name=name, backend="local")
        self.start = start
        self.timings = timings

    async def ready(self) -> None:
        """It is ready when it exists."""

    async def dispatch(self, call: bytes) -> AsyncIterator[bytes]:
        """Send the call, yield its journal. Raises `ConnectionLostError`."""
        try:
            reader, self._writer = await asyncio.open_unix_connection(sock=self._sock, limit=_READ)
            self._writer.write(encode_call(call))
            while data := await reader.read(_READ):
                yield data
        except OSError as error:
            raise ConnectionLostError(f"the runner's socket broke: {error}") from error

    def resume(self, offset: int) -> AsyncIterator[bytes]:
        """There is no second connection. Raises `ConnectionLostError`."""
        raise ConnectionLostError(f"a local sandbox has one connection; nothing to resume at {offset}")

    async def cancel(self) -> None:
        """Tell the runner. Raises `ConnectionLostError`."""
        if self._writer is None or self._writer.is_closing():
            raise ConnectionLostError("the runner's socket is closed")
        self._writer.write(CANCEL)

    async def alive(self) -> bool:
        """Until its one connection is used; when that ends, so does everything behind it."""
        return self._writer is None

    async def last_words(self) -> LastWords:
        """A local sandbox leaves nothing but what it sent."""
        return LastWords(_LOST)

    async def evidence(self) -> Evidence | None:
        """Only the service itself ends a local sandbox from outside."""
        return None

    async def release(self) -> None:
        """Close the socket; what still runs behind it is killed."""
        if self._writer is not None:
            self._writer.close()
        else:
            self._sock.close()
