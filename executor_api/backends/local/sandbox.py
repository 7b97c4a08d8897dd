"""A sandbox on this machine: a socket to its runner. It lives and dies with the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from executor_api.backends.base import Claim, ConnectionLostError, LastWords, NotTakenError, SandboxTimings
from executor_api.backends.local.reuse import Seat
from executor_api.domain.execution import SandboxDetails, Start
from executor_api.domain.outcome import Evidence, Reason
from executor_runner.protocol.local import CANCEL, REFUSED, encode_call

_READ = 64 * 1024
"""Bytes of one read: what malloc serves without asking the kernel for memory each time."""
_LOST = Evidence(Reason.SANDBOX_LOST, "the runner ended without a report: it was killed, or the service was stopped")


class LocalSandbox:
    """One call's process tree, behind a connected socket. ``give_back`` takes the seat of a sound one."""

    def __init__(
        self, seat: Seat, claim: Claim, start: Start, timings: SandboxTimings, give_back: Callable[[Seat], None]
    ) -> None:
        self._seat = seat
        self._execution_id = claim.execution_id
        self._give_back = give_back
        self._sending = asyncio.Lock()
        self._dispatched = False
        self._cancelling = False
        self._released = False
        self.details = SandboxDetails(name=seat.name, backend="local")
        self.start = start
        self.follows = seat.follows
        self.timings = timings

    async def ready(self) -> None:
        """It is ready when it exists."""

    async def dispatch(self, call: bytes) -> AsyncIterator[bytes]:
        """Send the call, yield its journal. Raises `ConnectionLostError` and `NotTakenError`."""
        self._dispatched = True
        loop = asyncio.get_running_loop()
        data = await self._first_answer(call)
        try:
            while data:
                yield data
                data = await loop.sock_recv(self._seat.sock, _READ)
        except OSError as error:
            raise ConnectionLostError(f"the runner's socket broke: {error}") from error

    async def _first_answer(self, call: bytes) -> bytes:
        """A runner takes a whole call only; one that ends before it has read all breaks the connection.

        After a cancel that says nothing: it may be what was not read.
        """
        try:
            await self._send(encode_call(call))
            data = await asyncio.get_running_loop().sock_recv(self._seat.sock, _READ)
        except OSError as error:
            if self.start is Start.COLD or self._cancelling:
                raise ConnectionLostError(f"the runner's socket broke: {error}") from error
            raise NotTakenError(f"the runner ended before it had read the call: {error}", "had died") from error
        if data.startswith(REFUSED):
            if self.start is Start.COLD:
                raise ConnectionLostError("the runner ended before it took the call")
            raise NotTakenError("the runner refused the call")
        return data

    def resume(self, offset: int) -> AsyncIterator[bytes]:
        """There is no second connection. Raises `ConnectionLostError`."""
        raise ConnectionLostError(f"a local sandbox has one connection; nothing to resume at {offset}")

    async def cancel(self) -> None:
        """Tell the runner. Raises `ConnectionLostError`."""
        if not self._dispatched or self._released:
            raise ConnectionLostError("the runner does not have the call")
        self._cancelling = True
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

    async def release(self, *, sound: bool = False, leaky: bool = False) -> None:
        """Give a sound one back; else close the socket, and what still runs behind it is killed."""
        del leaky  # it has no GPUs of its own
        if self._released:
            return
        self._released = True
        if not sound:
            self._seat.close()
            return
        self._seat.calls += 1
        self._seat.follows = self._execution_id
        self._give_back(self._seat)

    async def _send(self, data: bytes) -> None:
        async with self._sending:  # a cancel waits until the whole call is sent
            await asyncio.get_running_loop().sock_sendall(self._seat.sock, data)
