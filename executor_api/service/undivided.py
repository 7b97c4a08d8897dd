"""Work that, once begun, is finished even if whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


async def undivided(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end. A cancel that comes meanwhile is raised after it, so that what was done is known."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
