"""Waking those who wait for an execution that another replica drives."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

POLL_SECONDS = 1.0
"""A look into the store even without news: some may be missed."""


class Listener:
    """One who waits."""

    def __init__(self) -> None:
        self._told = asyncio.Event()

    def tell(self) -> None:
        """There is news."""
        self._told.set()

    async def wait(self) -> None:
        """Return once there was news since the last wait, or after `POLL_SECONDS`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._told.wait()
        self._told.clear()


class News:
    """Who waits for what."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Listener]] = {}

    @contextmanager
    def of(self, execution_id: str) -> Iterator[Listener]:
        """Listen for news of one execution, from now on."""
        listener = Listener()
        self._listeners.setdefault(execution_id, set()).add(listener)
        try:
            yield listener
        finally:
            self._listeners[execution_id].discard(listener)
            if not self._listeners[execution_id]:
                del self._listeners[execution_id]

    def tell(self, execution_id: str) -> None:
        """Something happened to it."""
        for listener in self._listeners.get(execution_id, ()):
            listener.tell()
