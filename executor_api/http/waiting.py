"""Waiting for the end of a call on behalf of a client, as long as it stays and the service lives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request

from executor_api.service.patience import OutOfPatienceError, Patience


class Waiting:
    """All requests that wait."""

    def __init__(self) -> None:
        self._patiences: set[Patience] = set()
        self._closed = False

    def close(self) -> None:
        """Let nobody wait (any more): clients get a 202 for calls that still run."""
        self._closed = True
        for patience in self._patiences:
            patience.shorten(0)

    async def wait(self, request: Request, end: Callable[[], Awaitable[object]]) -> bool:
        """Wait for the end, the client's leaving, or `close`; False if the client left first."""
        if self._closed:
            return True
        patience, leaving = Patience(), asyncio.ensure_future(_left(request))
        leaving.add_done_callback(lambda _: patience.shorten(0))
        self._patiences.add(patience)
        try:
            async with patience.within(None):
                await end()
        except OutOfPatienceError:
            return not leaving.done()
        finally:
            self._patiences.discard(patience)
            leaving.cancel()
        return True


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
