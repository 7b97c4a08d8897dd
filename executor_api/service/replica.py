"""This process among those that share a store: shows that it lives, takes up what nobody drives, hears the others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace

import structlog

from executor_api.domain.execution import Execution
from executor_api.domain.pool import Share
from executor_api.errors import UnavailableError
from executor_api.service.clock import Clock
from executor_api.service.ledger import Ledger
from executor_api.service.live import Live
from executor_api.service.store import Replicas, TakenOverError

ROUND_SECONDS = 1.0
_OWN_SECONDS = 5.0
"""An execution of ours that we don't know must be so old: no step of the clock may make a new one look lost."""
_FOR_EVER = 1e9
_MOST_REFUSED = 10_000

_log = structlog.get_logger(__name__)


class Replica:
    """``take_up`` begins to drive an unfinished execution from its record; ``use_share`` is told who else lives."""

    def __init__(
        self,
        replicas: Replicas,
        ledger: Ledger,
        take_up: Callable[[Execution], Awaitable[None]],
        silent_seconds: float,
        clock: Clock,
        use_share: Callable[[Share], None],
    ) -> None:
        self.accepting: set[str] = set()
        """Executions at the door: recorded maybe, and not driven yet."""
        self.refused: deque[str] = deque(maxlen=_MOST_REFUSED)
        """Those whose clients were told that they could not be recorded; the latest. One that was must not run."""
        self._replicas = replicas
        self._ledger = ledger
        self._take_up = take_up
        self._silent_seconds = silent_seconds
        self._clock = clock
        self._use_share = use_share
        self._hurry = asyncio.Event()
        self._patient_until = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._again_and_again(self._beats))
            tasks.create_task(self._again_and_again(self._rounds))
            tasks.create_task(self._again_and_again(self._listen))

    async def round(self) -> None:
        """Take up what nobody drives, do what others asked for. Raises `UnavailableError`."""
        now = self._clock.monotonic()
        # If we could not reach the store, maybe nobody could: then the others are not dead, only silent.
        silence = self._silent_seconds if now >= self._patient_until else _FOR_EVER
        before = self._clock.now() - _OWN_SECONDS
        for record in await self._replicas.take_over(silence, self.accepting | self._ledger.drives.keys(), before):
            if record.id not in self.accepting and record.id not in self._ledger.drives:
                _log.info("taken up", execution=record.id, dispatched=record.dispatched)
                await self._take_up(_never_sent(record) if record.id in self.refused else record)
        await self._follow_orders()

    async def cancel(self, execution_id: str) -> None:
        """See to it that it ends, whoever drives it. Raises `UnavailableError`."""
        drive = self._ledger.driving(execution_id)
        if drive is not None:
            with suppress(TakenOverError):
                return await drive.cancel()
        return await self._replicas.request_cancel(execution_id)

    async def leave(self, lives: Iterable[Live]) -> None:
        """Store what these drives have, then leave them to the others, who otherwise see to them in a while."""
        try:
            for live in lives:
                with suppress(TakenOverError):
                    await live.flush()
            await self._replicas.let_go()
        except UnavailableError as error:
            _log.warning("running calls could not be handed over", error=str(error))

    async def _follow_orders(self) -> None:
        orders = await self._replicas.orders(list(self._ledger.drives))
        for execution_id in orders.lost & self._ledger.drives.keys():
            self._ledger.drives[execution_id].lose()
        await asyncio.gather(
            *(self.cancel(execution_id) for execution_id in orders.cancel & self._ledger.drives.keys())
        )

    async def _beats(self) -> None:
        """Apart from the rounds, which may have much to do."""
        while True:
            self._use_share(await self._replicas.beat())
            await asyncio.sleep(ROUND_SECONDS)

    async def _rounds(self) -> None:
        while True:
            await self.round()
            with suppress(TimeoutError):
                async with asyncio.timeout(ROUND_SECONDS):
                    await self._hurry.wait()
            self._hurry.clear()

    async def _listen(self) -> None:
        async for change in self._replicas.changes():
            self._ledger.news.tell(change.execution_id)
            if change.for_driver and change.execution_id in self._ledger.drives:
                self._hurry.set()

    async def _again_and_again(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except UnavailableError as error:
                _log.warning("the other replicas can't be heard", error=str(error))
            except Exception:  # noqa: BLE001 - the one supervisor of this task
                _log.exception("keeping up with the other replicas failed")
            self._patient_until = self._clock.monotonic() + self._silent_seconds
            await asyncio.sleep(ROUND_SECONDS)


def _never_sent(record: Execution) -> Execution:
    """One that must not run. The sandbox that it was to have, if any, was given back."""
    return replace(record, cancel_requested=True, dispatched=False, sandbox=None, start=None)
