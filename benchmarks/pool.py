"""The pool as ``GET /pool`` shows it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import workloads
from calls import Caller
from wire import Client

_POLL_SECONDS = 0.05


class Pool:
    """The pool of one template at one service."""

    def __init__(self, client: Client, template: str) -> None:
        self._client = client
        self._template = template

    async def look(self) -> Mapping[str, Any]:
        """Its status; empty if the service has no pool of that template."""
        answer = await self._client.request("GET", "/pool")
        pools = json.loads(answer.body)["pools"] if answer.status == 200 else []
        return next((pool for pool in pools if pool["template"] == self._template), {})

    async def wait_full(self, seconds: float = 120, lacking: int = 0) -> Mapping[str, Any]:
        """Wait until as many wait as should, but for ``lacking``; then return the status. Raises ``TimeoutError``."""
        return await self._wait(lambda status: status["ready"] >= status["desired"] - lacking, seconds)

    async def wait_settled(self, seconds: float = 120) -> Mapping[str, Any]:
        """Wait until it is full and nothing is being made, then return the status. Raises ``TimeoutError``."""
        return await self._wait(lambda it: it["ready"] >= it["desired"] and not it["starting"], seconds)

    async def refill_rate(self, caller: Caller, seconds: float = 40.0) -> float:
        """Sandboxes a second that it makes without end, by calls that never let it fill; the first quarter warms up.

        What a full pool gives when it is emptied at once is more: used pods then still come down. 0.0 without a pool.
        """
        size = (await self.wait_full()).get("desired", 0)
        if not size:
            return 0.0
        replies = await workloads.closed_loop([caller] * (size // 2 + 1), seconds)
        end = max(reply.finished for reply in replies)
        begin = end - 0.75 * seconds
        return sum(reply.finished > begin for reply in replies) / (end - begin)

    async def _wait(self, enough: Callable[[Mapping[str, Any]], bool], seconds: float) -> Mapping[str, Any]:
        deadline = time.monotonic() + seconds
        while (status := await self.look()) and not enough(status):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the pool is not full after {seconds:.0f} s: {dict(status)}")
            await asyncio.sleep(_POLL_SECONDS)
        return status
