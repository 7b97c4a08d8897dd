"""Asking a runner to end its call, for as long as that makes sense."""

from __future__ import annotations

import asyncio

from executor_api.backends.base import ConnectionLostError, Sandbox
from executor_api.service.clock import backoff
from executor_api.service.patience import Patience

CANCEL_SECONDS = 30.0
"""How long a runner that can't be reached is asked again, before its call is given up."""


async def ask_to_cancel(sandbox: Sandbox, patience: Patience, seconds_to_report: float) -> None:
    """Ask until the runner has heard it, or its sandbox is gone; then the report is waited for a bounded time."""
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            await _ask(sandbox)
    except TimeoutError:
        patience.shorten(0)
    else:
        patience.shorten(seconds_to_report)


async def _ask(sandbox: Sandbox) -> None:
    for delay in backoff():
        try:
            await sandbox.cancel()
        except ConnectionLostError:
            if not await sandbox.alive():
                return
        else:
            return
        await asyncio.sleep(delay)
