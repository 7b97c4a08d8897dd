"""What has to be done now and then: old executions pruned, sandboxes that nobody wants deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from executor_api.backends.base import Backend
from executor_api.errors import UnavailableError
from executor_api.service.clock import Clock
from executor_api.service.metrics import ServiceMetrics
from executor_api.service.store import Store

_log = structlog.get_logger(__name__)


class Housekeeping:
    """One round at once, then one every ``interval`` seconds."""

    def __init__(self, backend: Backend, store: Store, clock: Clock, metrics: ServiceMetrics) -> None:
        self._backend = backend
        self._store = store
        self._clock = clock
        self._metrics = metrics

    async def run(
        self, is_wanted: Callable[[str], Awaitable[bool]], keep_seconds: float, keep_bytes: int, interval: float
    ) -> None:
        """Run until cancelled. A round that fails is logged, and the next one tries again."""
        while True:
            try:
                await self.prune(keep_seconds, keep_bytes)
                await self.collect_garbage(is_wanted)
            except UnavailableError as error:
                _log.warning("housekeeping put off", error=str(error))
            except Exception:  # noqa: BLE001 - the one supervisor of this task
                _log.exception("housekeeping failed")
            await asyncio.sleep(interval)

    async def prune(self, keep_seconds: float, keep_bytes: int) -> None:
        """Forget finished executions beyond age and size."""
        pruned = await self._store.prune(self._clock.now() - keep_seconds, keep_bytes)
        if pruned:
            _log.info("pruned", executions=pruned)

    async def collect_garbage(self, is_wanted: Callable[[str], Awaitable[bool]]) -> None:
        """Delete sandboxes whose execution is over or unknown."""
        deleted = await self._backend.collect_garbage(is_wanted)
        if deleted:
            self._metrics.garbage(deleted)
            _log.info("garbage collected", sandboxes=deleted)
