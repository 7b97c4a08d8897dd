"""The warm pool of one template, seen by those who claim from it: who gets which sandbox, who waits, who goes cold."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from executor_api.backends.base import Claim, Miss, SandboxFailedError
from executor_api.backends.kubernetes.cold_starts import ColdStarts
from executor_api.backends.kubernetes.roster import Roster
from executor_api.domain.outcome import Evidence, Reason
from executor_api.domain.plan import SandboxResources
from executor_api.domain.pool import Demand, Member, Phase, PoolStatus
from executor_api.domain.pool_settings import MissPolicy
from executor_api.domain.template import Template


@dataclass(frozen=True, slots=True)
class Sandboxes:
    """What the sandboxes of one pool are made from.

    ``changed_at``: since when, in seconds since the epoch; None if this process knows of no others before.
    """

    template: Template
    digest: str
    resources: SandboxResources
    changed_at: float | None = None


@dataclass(slots=True)
class Counts:
    """What became of the claims of this process."""

    hits: int = 0
    waits: int = 0
    misses: int = 0
    conflicts: int = 0


class _Waiter(NamedTuple):
    since: float  # its claim's
    turn: asyncio.Future[str | None]  # a sandbox, or None to have one made


@dataclass(slots=True)
class WarmPool:
    """Claims of one process from one pool. ``replica`` makes processes prefer different sandboxes."""

    sandboxes: Sandboxes
    roster: Roster
    starts: ColdStarts
    replica: str
    now: Callable[[], float]  # seconds since the epoch
    demand: Demand = field(default_factory=Demand)
    counts: Counts = field(default_factory=Counts)
    _troubles: dict[str, tuple[float, str]] = field(default_factory=dict)  # of making them, by kind: since when, what
    _proven: str = ""  # the digest of which one was ready
    _waiters: dict[str, _Waiter] = field(default_factory=dict)  # by execution, who has waited longest first

    @property
    def name(self) -> str:
        """The template's."""
        return self.sandboxes.template.name

    @property
    def _has_gpus(self) -> bool:
        return self.sandboxes.resources.gpu_count > 0

    @property
    def waiting_calls(self) -> int:
        """Calls that wait for a sandbox here."""
        return len(self._waiters)

    async def claim(self, claim: Claim) -> str | Miss:
        """The name of a sandbox, reserved for the caller; a miss is its turn to have one made.

        Raises `SandboxFailedError` where a wait is in vain.
        """
        settings = self.sandboxes.template.pool
        if not settings.largest:
            return Miss(f"template {self.name!r} keeps no sandboxes waiting")
        if claim.plan.resources != self.sandboxes.resources:
            return Miss("it asks for other resources than the waiting sandboxes have")
        name = self._take() if not self._waiters else None
        if name is not None:
            self.counts.hits += 1
            return name
        name = await self._wait(claim)
        if name is not None:
            self.counts.waits += 1
            return name
        self.counts.misses += 1
        return Miss(self.why())

    def refused(self) -> None:
        """A sandbox that was claimed has turned out to be another's, or dead."""
        self.counts.conflicts += 1

    def fails(self, kind: str, why: str) -> None:
        """No sandbox can be made, until it is `mended`."""
        since, _ = self._troubles.get(kind, (self.now(), ""))
        self._troubles[kind] = (since, why)

    def mended(self) -> None:
        """One was made, and is ready."""
        self._troubles.clear()

    def serve(self) -> None:
        """Something has changed: hand out what is ready, and let those go cold for whom nothing is on the way."""
        self._look_whether_proven()
        waiting = [(execution_id, turn) for execution_id, (_, turn) in self._waiters.items() if not turn.done()]
        while waiting and (name := self._take()) is not None:
            waiting.pop(0)[1].set_result(name)
        if waiting and self.sandboxes.template.pool.miss is not MissPolicy.WAIT:
            for execution_id, turn in waiting[self._on_the_way() :]:
                self.starts.line_up(execution_id, turn)

    def why(self) -> str:
        """Why nothing is ready, for one who asks now."""
        current, changed_at = self._current(), self.sandboxes.changed_at
        problems = self._problems(current)
        if problems:
            return f"the pool can't be filled: {problems[0]}"
        taken = sum(item.phase is Phase.TAKEN for item in current)
        starting = sum(item.phase is Phase.STARTING for item in current)
        how = f"{starting} being made, {len(self._waiters)} calls wait"
        if self._proven == self.sandboxes.digest or taken:
            return f"all waiting sandboxes are taken ({taken} in use, {how})"
        if changed_at is None:
            return f"none of the pool's sandboxes is ready yet ({how})"
        return (
            f"the template changed {self.now() - changed_at:.0f} s ago, and its new sandboxes are not ready yet ({how})"
        )

    def status(self, desired: int) -> PoolStatus:
        """The pool as it is now."""
        members = self._current()
        pace = self.roster.pace(self.name)
        return PoolStatus(
            template=self.name,
            digest=self.sandboxes.digest,
            desired=desired,
            ready=sum(item.phase is Phase.READY for item in members),
            starting=sum(item.phase is Phase.STARTING for item in members),
            taken=sum(item.phase is Phase.TAKEN for item in members),
            hits=self.counts.hits,
            waits=self.counts.waits,
            misses=self.counts.misses,
            conflicts=self.counts.conflicts,
            held=sum(item.phase is Phase.STARTING and bool(item.obstacle) for item in members),
            replacement_seconds=pace.replacement_seconds,
            refill_per_second=pace.refill_per_second,
            changed_at=self.sandboxes.changed_at,
            problems=(*self._problems(members), *(self.roster.leaks.sentences() if self._has_gpus else ())),
        )

    def _current(self) -> list[Member]:
        members, digest = self.roster.members(self.name), self.sandboxes.digest
        self._note_change(item for item in members if item.digest != digest)
        return [item for item in members if item.digest == digest]

    def _note_change(self, others: Iterable[Member]) -> None:
        """Where sandboxes of before still wait, the change was made as this process began."""
        if self.sandboxes.changed_at is None and any(item.phase in (Phase.STARTING, Phase.READY) for item in others):
            self.sandboxes = replace(self.sandboxes, changed_at=self.now())

    def _problems(self, current: list[Member]) -> tuple[str, ...]:
        now = self.now()
        troubles = (f"{why} (for {max(0.0, now - since):.0f} s now)" for since, why in self._troubles.values())
        return (*troubles, *held_up(current, now))

    def _look_whether_proven(self) -> None:
        digest = self.sandboxes.digest
        if self._proven != digest and any(
            item.phase is Phase.READY and item.digest == digest for item in self.roster.members(self.name)
        ):
            self._proven = digest

    def _take(self) -> str | None:
        """Choose and reserve, with nothing awaited in between. Each process has an order of its own."""
        names = self.roster.ready(self.name, self.sandboxes.digest, self.sandboxes.template.longest_seconds)
        if not names:
            return None
        name = max(names, key=lambda item: zlib.crc32(f"{self.replica} {item}".encode()))
        self.roster.take(name)
        return name

    async def _wait(self, claim: Claim) -> str | None:
        """A sandbox, or None for the turn to have one made. Raises `SandboxFailedError` if neither comes in time."""
        execution_id = claim.execution_id
        turn: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waiters[execution_id] = _Waiter(claim.since, turn)
        self._waiters = dict(sorted(self._waiters.items(), key=lambda item: item[1].since))
        self.serve()
        try:
            async with asyncio.timeout(self.sandboxes.template.start_seconds):
                return await turn
        except TimeoutError:
            self._hand_back(execution_id, turn)
            why = f"no sandbox became free in time: {self.why()}"
            raise SandboxFailedError(Evidence(Reason.START_TIMEOUT, why)) from None
        except asyncio.CancelledError:
            self._hand_back(execution_id, turn)
            raise
        finally:
            del self._waiters[execution_id]
            self.starts.leave_line(execution_id)

    def _hand_back(self, execution_id: str, turn: asyncio.Future[str | None]) -> None:
        """What was handed over in the very moment in which its caller stopped waiting."""
        if turn.cancelled() or not turn.done():
            return
        name = turn.result()
        if name is None:
            self.starts.over(execution_id)
        else:
            self.roster.give_back(name)

    def _on_the_way(self) -> int:
        """Sandboxes being made that nothing is known to keep from starting, or that other replicas may leave to us."""
        members, digest = self.roster.members(self.name), self.sandboxes.digest
        starting = sum(item.phase is Phase.STARTING and not item.obstacle and item.digest == digest for item in members)
        return starting + self.roster.left_to_others(self.name, digest)


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
