"""The warm pool of one template, seen by those who claim from it: who gets which sandbox, who waits, who goes cold."""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from executor_api.backends.base import Miss, SandboxFailedError
from executor_api.backends.kubernetes.roster import Roster
from executor_api.domain.outcome import Evidence, Reason
from executor_api.domain.pool import Demand, Member, Phase, PoolStatus
from executor_api.domain.pool_settings import MissPolicy
from executor_api.domain.template import SandboxResources, Template


@dataclass(frozen=True, slots=True)
class Sandboxes:
    """What the sandboxes of one pool are made from. ``changed_at``: seconds since the epoch."""

    template: Template
    digest: str
    resources: SandboxResources
    changed_at: float


@dataclass(slots=True)
class Counts:
    """What became of the claims of this process."""

    hits: int = 0
    misses: int = 0
    conflicts: int = 0


@dataclass(slots=True)
class WarmPool:
    """Claims of one process from one pool. ``replica`` makes processes prefer different sandboxes."""

    sandboxes: Sandboxes
    roster: Roster
    replica: str
    now: Callable[[], float]  # seconds since the epoch
    demand: Demand = field(default_factory=Demand)
    counts: Counts = field(default_factory=Counts)
    problems: dict[str, str] = field(default_factory=dict)  # of making sandboxes, by what is wrong
    _waiters: deque[asyncio.Future[str | None]] = field(default_factory=deque)

    @property
    def name(self) -> str:
        """The template's."""
        return self.sandboxes.template.name

    @property
    def waiting_calls(self) -> int:
        """Calls that wait for a sandbox here."""
        return len(self._waiters)

    async def claim(self, resources: SandboxResources) -> str | Miss:
        """The name of a sandbox, reserved for the caller. Raises `SandboxFailedError` where a wait is in vain."""
        settings = self.sandboxes.template.pool
        if not settings.largest:
            return Miss(f"template {self.name!r} keeps no sandboxes waiting")
        if resources != self.sandboxes.resources:
            return Miss("it asks for other resources than the waiting sandboxes have")
        self.demand.arrived(self.now())
        name = self._take() if not self._waiters else None
        if name is None and (settings.miss is MissPolicy.WAIT or self._on_the_way() > len(self._waiters)):
            name = await self._wait()
        if name is not None:
            self.counts.hits += 1
            return name
        self.counts.misses += 1
        if settings.miss is MissPolicy.WAIT:
            raise SandboxFailedError(Evidence(Reason.START_TIMEOUT, f"no sandbox became free in time: {self.why()}"))
        return Miss(self.why())

    def refused(self) -> None:
        """A sandbox that was claimed has turned out to be another's, or dead."""
        self.counts.conflicts += 1

    def serve(self) -> None:
        """Something has changed: hand out what is ready, and let those go cold for whom nothing is on the way."""
        while self._waiters and (name := self._take()) is not None:
            self._settle(self._waiters.popleft(), name)
        if self.sandboxes.template.pool.miss is MissPolicy.WAIT:
            return
        while len(self._waiters) > self._on_the_way():
            self._settle(self._waiters.pop(), None)

    def why(self) -> str:
        """Why nothing is ready, for one who asks now."""
        members = self.roster.members(self.name)
        current = [item for item in members if item.digest == self.sandboxes.digest]
        held = [item for item in current if item.obstacle and item.phase is Phase.STARTING]
        starting = sum(item.phase is Phase.STARTING for item in current) - len(held)
        if self.problems:
            return f"the pool can't be filled: {next(iter(self.problems.values()))}"
        if held:
            return f"{len(held)} sandboxes of the pool can't start: {held[0].obstacle}"
        if len(current) < len(members) and not any(item.phase is Phase.TAKEN for item in current):
            ago = self.now() - self.sandboxes.changed_at
            return f"the template changed {ago:.0f} s ago, and its new sandboxes are not ready yet"
        taken = sum(item.phase is Phase.TAKEN for item in members)
        queue = len(self._waiters)
        return f"all waiting sandboxes are taken ({taken} in use, {starting} being made, {queue} calls wait)"

    def status(self, desired: int) -> PoolStatus:
        """The pool as it is now."""
        members = [item for item in self.roster.members(self.name) if item.digest == self.sandboxes.digest]
        pace = self.roster.pace(self.name)
        return PoolStatus(
            template=self.name,
            digest=self.sandboxes.digest,
            desired=desired,
            ready=sum(item.phase is Phase.READY for item in members),
            starting=sum(item.phase is Phase.STARTING for item in members),
            taken=sum(item.phase is Phase.TAKEN for item in members),
            hits=self.counts.hits,
            misses=self.counts.misses,
            conflicts=self.counts.conflicts,
            replacement_seconds=pace.replacement_seconds,
            refill_per_second=pace.refill_per_second,
            changed_at=self.sandboxes.changed_at,
            problems=(*self.problems.values(), *held_up(members, self.now())),
        )

    def _take(self) -> str | None:
        """Choose and reserve, with nothing awaited in between. Each process has an order of its own."""
        names = self.roster.ready(self.name, self.sandboxes.digest)
        if not names:
            return None
        name = max(names, key=lambda item: zlib.crc32(f"{self.replica} {item}".encode()))
        self.roster.take(name)
        return name

    async def _wait(self) -> str | None:
        waiter: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self.sandboxes.template.start_seconds):
                return await waiter
        except TimeoutError:
            return _result(waiter)
        except asyncio.CancelledError:
            name = _result(waiter)
            if name is not None:
                self.roster.give_back(name)
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _settle(self, waiter: asyncio.Future[str | None], name: str | None) -> None:
        if not waiter.done():
            waiter.set_result(name)
        elif name is not None:
            self.roster.give_back(name)

    def _on_the_way(self) -> int:
        """Sandboxes being made that nothing is known to keep from starting."""
        members = self.roster.members(self.name)
        return sum(
            item.phase is Phase.STARTING and not item.obstacle and item.digest == self.sandboxes.digest
            for item in members
        )


def _result(waiter: asyncio.Future[str | None]) -> str | None:
    """What was handed over in the very moment in which its caller stopped waiting."""
    return waiter.result() if waiter.done() and not waiter.cancelled() else None


def held_up(members: list[Member], now: float) -> tuple[str, ...]:
    """A sentence for each obstacle: how many it holds up, and since when."""
    held: dict[str, list[Member]] = {}
    for item in members:
        if item.obstacle and item.phase is Phase.STARTING:
            held.setdefault(item.obstacle, []).append(item)
    return tuple(
        f"{len(items)} sandbox{'es' if len(items) > 1 else ''} pending for "
        f"{max(0.0, now - min(item.since for item in items)):.0f} s: {why}"
        for why, items in held.items()
    )
