"""Sandboxes of ``isolation: reuse`` between two calls: each waits for its own tenant, and for nobody else."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from executor_api.backends.local.nursery import NurseryKind, end, is_closed
from executor_api.domain.pool_settings import ReuseLimits


@dataclass(slots=True, eq=False)
class Seat:
    """The connection to one runner, and what it has served. ``since``: instant of the event loop's clock."""

    name: str
    sock: socket.socket
    since: float
    calls: int = 0
    follows: str = ""  # the execution whose call it had last

    def close(self) -> None:
        """End the sandbox. Safe to call twice."""
        end(self.sock)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose calls a sandbox may serve, and which."""

    tenant: str
    kind: NurseryKind


class IdleSeats:
    """Keeps what may serve another call; the one used last goes first, so that the others age."""

    def __init__(self) -> None:
        self._idle: dict[Owner, dict[Seat, asyncio.TimerHandle]] = {}
        self._closed = False

    def take(self, owner: Owner) -> Seat | None:
        """One that lives, if there is any."""
        idle = self._idle.get(owner, {})
        while idle:
            seat, timer = idle.popitem()
            timer.cancel()
            if not is_closed(seat.sock):
                return seat
            seat.close()
        return None

    def give(self, owner: Owner, seat: Seat, limits: ReuseLimits) -> None:
        """Keep it for the next call, or close it if it has served enough."""
        loop = asyncio.get_running_loop()
        if self._closed or seat.calls >= limits.max_calls or loop.time() - seat.since >= limits.max_age_seconds:
            seat.close()
            return
        timer = loop.call_later(limits.max_idle_seconds, self._expire, owner, seat)
        self._idle.setdefault(owner, {})[seat] = timer

    def close(self) -> None:
        """Close all, and those that come later."""
        self._closed = True
        for idle in self._idle.values():
            for seat, timer in idle.items():
                timer.cancel()
                seat.close()
        self._idle.clear()

    def _expire(self, owner: Owner, seat: Seat) -> None:
        idle = self._idle[owner]
        del idle[seat]
        if not idle:
            del self._idle[owner]
        seat.close()
