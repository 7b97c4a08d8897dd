"""The local backend: sandboxes by fork on this machine, with what isolation its kernel permits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from executor_api.backends.base import Claim, Health, SandboxTimings
from executor_api.backends.local.nursery import RETRY_SECONDS, Nursery, NurseryKind
from executor_api.backends.local.reuse import IdleSeats, Owner, Seat
from executor_api.backends.local.sandbox import LocalSandbox
from executor_api.domain.execution import Start
from executor_api.domain.pool import PoolStatus, Share
from executor_api.domain.request import Isolation
from executor_api.domain.template import Template
from executor_api.errors import UnavailableError

STOCK = 4
"""Sandboxes that wait per kind: enough to hide a fork from calls that come one after another."""
_STOPPED = "the local backend is stopped"


class LocalBackend:
    """Keeps one nursery for each kind of sandbox that templates ask for, started at the first need.

    ``stock`` sandboxes wait in each. ``namespaces``: use them where the kernel permits it.
    """

    name = "local"

    def __init__(self, environ: Mapping[str, str], stock: int = STOCK, *, namespaces: bool = True) -> None:
        self._environ = environ
        self._namespaces = namespaces
        self._stock = stock
        self._nurseries: dict[NurseryKind, Nursery] = {}
        self._idle = IdleSeats()
        self._starting = asyncio.Lock()
        self._problem = "the local backend is not started"
        self._stopped = False
        self._retrying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the default nursery, which finds out what isolation there is; where that fails, keep trying."""
        if not await self._started():
            self._retrying = asyncio.create_task(self._retry())

    async def stop(self) -> None:
        """End every sandbox, and make no more."""
        self._stopped = True
        self._idle.close()
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.gather(self._retrying, return_exceptions=True)
        async with self._starting:
            nurseries, self._nurseries = self._nurseries, {}
            await asyncio.gather(*(nursery.stop() for nursery in nurseries.values()))
        self._problem = _STOPPED

    def health(self) -> Health:
        """Ready while sandboxes can be made; the notes tell what isolation they get."""
        notes = tuple(f"sandboxes get {isolation}" for isolation in sorted(self._isolations()))
        troubles = {nursery.trouble for nursery in self._nurseries.values()}
        problems = tuple(sorted({self._problem, *troubles} - {""}))
        return Health(not problems, problems, notes)

    def use_templates(self, templates: Mapping[str, Template]) -> None:
        """Nothing of them has to be prepared."""

    async def claim(self, claim: Claim) -> LocalSandbox:
        """Take one that the tenant has used before, one that waits, or have one made. Raises `UnavailableError`."""
        seat = self._idle.take(self._owner(claim)) if _is_reuse(claim) else None
        if seat is not None:
            return self._sandbox(seat, claim, Start.REUSED, SandboxTimings())
        return await self.create(f"x-{claim.execution_id.lower()}", claim)

    def pools(self) -> tuple[PoolStatus, ...]:
        """None that an operator sizes: a few sandboxes wait for whatever comes."""
        return ()

    def use_share(self, share: Share) -> None:
        """Nothing to share: what is made here is this process's."""
        del share

    def obstacle(self, name: str, execution_id: str) -> str:
        """Nothing: what starts here starts at once, or fails."""
        del name, execution_id
        return ""

    async def create(self, name: str, claim: Claim) -> LocalSandbox:
        """Take a waiting sandbox, or have one made. Raises `UnavailableError`."""
        began = time.monotonic()
        nursery = await self._nursery(self._owner(claim).kind)
        sock, waited = await nursery.take()
        timings = SandboxTimings(create=(time.monotonic() - began) * 1000)
        seat = Seat(name, sock, asyncio.get_running_loop().time())
        return self._sandbox(seat, claim, Start.WARM if waited else Start.COLD, timings)

    async def find(self, name: str, execution_id: str) -> None:
        """Local sandboxes end with the service that made them."""
        del name, execution_id

    async def collect_garbage(self, is_wanted: Callable[[str], Awaitable[bool]]) -> int:
        """There is never any: a nursery removes what its sandboxes leave."""
        del is_wanted
        return 0

    def _sandbox(self, seat: Seat, claim: Claim, start: Start, timings: SandboxTimings) -> LocalSandbox:
        def give_back(seat: Seat) -> None:
            if _is_reuse(claim):
                self._idle.give(self._owner(claim), seat, claim.plan.template.reuse)
            else:
                seat.close()

        return LocalSandbox(seat, claim, start, timings, give_back)

    def _owner(self, claim: Claim) -> Owner:
        template = claim.plan.template
        return Owner(claim.tenant, self._kind(template.preload, template.network))

    async def _started(self) -> bool:
        try:
            await self._nursery(self._kind((), "none"))
        except UnavailableError as error:
            self._problem = str(error)
            return False
        self._problem = ""
        return True

    async def _retry(self) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            if await self._started():
                return

    def _isolations(self) -> set[str]:
        return {nursery.isolation for nursery in self._nurseries.values()}

    def _kind(self, preload: tuple[str, ...], network: str) -> NurseryKind:
        return NurseryKind(preload, network, self._namespaces)

    async def _nursery(self, kind: NurseryKind) -> Nursery:
        nursery = self._nurseries.get(kind)
        if nursery is not None and nursery.alive:
            return nursery
        async with self._starting:
            if self._stopped:
                raise UnavailableError(_STOPPED)
            nursery = self._nurseries.get(kind)
            if nursery is not None and nursery.alive:
                return nursery
            if nursery is not None:
                await nursery.stop()
            nursery = Nursery(kind, self._stock)
            await nursery.start(self._environ)
            self._nurseries[kind] = nursery
            return nursery


def _is_reuse(claim: Claim) -> bool:
    return claim.plan.request.isolation is Isolation.REUSE
