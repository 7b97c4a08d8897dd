"""How long somebody waits for what he waits for now, and a way for others to cut that short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class OutOfPatienceError(Exception):
    """The time is over, or was cut short."""


class Patience:
    """At most one wait at a time."""

    def __init__(self) -> None:
        self._scope: asyncio.Timeout | None = None

    @asynccontextmanager
    async def within(self, seconds: float | None) -> AsyncIterator[None]:
        """Bound the body; None is no bound of its own. Raises `OutOfPatienceError`."""
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                self._scope = scope
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            raise OutOfPatienceError from None
        finally:
            self._scope = None

    def shorten(self, seconds: float) -> None:
        """Wait at most so much longer. Nothing happens if nobody waits, or not so long anyway."""
        scope = self._scope
        if scope is None or scope.expired():
            return
        at, until = asyncio.get_running_loop().time() + seconds, scope.when()
        if until is None or at < until:
            scope.reschedule(at)
