"""Asking a runner to end its call, for as long as that makes sense."""

from __future__ import annotations

import asyncio

import structlog

from executor_api.backends.base import ConnectionLostError, Sandbox
from executor_api.service.clock import backoff
from executor_api.service.patience import Patience

CANCEL_SECONDS = 30.0
"""How long a runner that can't be reached is asked again, before its call is given up."""

_log = structlog.get_logger(__name__)


class Cancelling:
    """Asks the runner of one execution, once, however many want its end. Then ``patience`` has an end."""

    def __init__(self, execution_id: str, patience: Patience, seconds_to_report: float) -> None:
        self._execution_id = execution_id
        self._patience = patience
        self._seconds_to_report = seconds_to_report
        self._asking: asyncio.Task[None] | None = None

    def ask(self, sandbox: Sandbox) -> asyncio.Task[None]:
        """Ask in a task of its own until the runner has heard it, or its sandbox is gone."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(sandbox))
            self._asking.add_done_callback(self._check)
        return self._asking

    def stop(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()

    async def _ask(self, sandbox: Sandbox) -> None:
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                await _until_heard(sandbox)
        except TimeoutError:
            self._patience.shorten(0)
        else:
            self._patience.shorten(self._seconds_to_report)

    def _check(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("cancelling failed", execution=self._execution_id, exc_info=error)


async def _until_heard(sandbox: Sandbox) -> None:
    for delay in backoff():
        try:
            await sandbox.cancel()
        except ConnectionLostError:
            if not await sandbox.alive():
                return
        else:
            return
        await asyncio.sleep(delay)
