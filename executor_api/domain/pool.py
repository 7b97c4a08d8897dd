"""The warm pool as numbers: which sandboxes wait, how many should, and what closes the gap. Pure."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import ceil, inf, sqrt

from executor_api.domain.pool_settings import PoolSettings

_WEIGHT = 0.2
"""How much the newest measurement counts in a running mean."""
_PACE_COUNT = 20
"""Sandboxes by which a pace is measured: they come in clusters, and what was odd is soon forgotten."""
_RATE_SECONDS = 30.0
"""The time over which arrivals fade from memory."""
_SPREAD = 2.0
"""Standard deviations of a Poisson count that an autoscaled pool has in store: 98 of 100 moments."""
_JITTER = 0.1


class Phase(Enum):
    """Where a pooled sandbox is."""

    STARTING = "starting"
    READY = "ready"
    TAKEN = "taken"  # has a call, or is reserved for one
    ENDED = "ended"  # died while it waited


@dataclass(frozen=True, slots=True)
class Share:
    """One replica's place among those that claim from the same pools: number ``mine``, from 0, ``of`` so many."""

    mine: int = 0
    of: int = 1


@dataclass(frozen=True, slots=True)
class Member:
    """One sandbox of a pool. ``since``: seconds, when it was created; ``obstacle``: why it does not start.

    ``crowded_out``: because there is no room for it. ``unfit``: it is where no sandbox of this pool should be.
    ``lasts``: seconds until the cluster ends it, whatever it does.
    """

    name: str
    digest: str
    phase: Phase
    since: float
    obstacle: str = ""
    crowded_out: bool = False
    unfit: bool = False
    lasts: float = inf


@dataclass(frozen=True, slots=True)
class Target:
    """What a pool should be: ``size`` sandboxes of one digest that wait, none for longer than the idle age.

    ``call_seconds``: what a call may take, which each of them must outlast.
    """

    digest: str
    size: int
    max_idle_seconds: float
    call_seconds: float = 0.0


NOTHING = Target("", 0, inf)
"""What the pool of a template should be that there is no more."""


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What closes the gap: how many to create, which to retire."""

    create: int
    retire: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatus:
    """A pool as ``GET /pool`` tells it. ``None`` where nothing was measured yet."""

    template: str
    digest: str
    desired: int
    ready: int
    starting: int
    taken: int
    hits: int  # claims since this process started, by its own calls
    waits: int
    misses: int
    conflicts: int
    held: int = 0  # of those starting: something keeps them from it
    replacement_seconds: float | None = None  # from its pod's showing to ready
    refill_per_second: float | None = None  # while any is being made
    changed_at: float | None = None  # seconds since the epoch: when the template got its present digest
    problems: tuple[str, ...] = ()


def plan_pool(target: Target, members: Sequence[Member], expected: int, cold: int, now: float) -> PoolPlan:
    """Close the gap between what waits and what should.

    ``expected`` creations are under way and not among the ``members`` yet. ``cold`` sandboxes like these are starting
    for calls, which come first: the pool takes their room once they have it. What an obstacle keeps from starting
    counts as starting: another one would meet the same obstacle. What has waited too long stays until its successors
    are ready, or, where there is no room for these, one after the other makes room.
    """
    waiting = [item for item in members if item.phase in (Phase.STARTING, Phase.READY)]
    current = [item for item in waiting if _is_current(item, target)]
    aged = [item for item in current if item.phase is Phase.READY and _is_aged(item, target, now)]
    fresh = [item for item in current if item not in aged]
    retire = [item for item in members if item.phase is Phase.ENDED]
    retire += [item for item in waiting if not _is_current(item, target) and _can_retire(item)]
    retire += _surplus(fresh, len(fresh) + expected - target.size)
    retire += _replaced(aged, fresh, target.size)
    return PoolPlan(max(0, target.size - len(fresh) - expected - cold), tuple(item.name for item in retire))


def _is_current(member: Member, target: Target) -> bool:
    return member.digest == target.digest and not member.unfit and _outlasts_calls(member, target)


def _outlasts_calls(member: Member, target: Target) -> bool:
    """Each is replaced a while before it does not, so that those made at once do not all go at once."""
    return member.lasts >= target.call_seconds + _JITTER * target.max_idle_seconds * _spread(member)


def _replaced(aged: list[Member], fresh: list[Member], size: int) -> list[Member]:
    """Those of the aged that go now."""
    ready = sum(item.phase is Phase.READY for item in fresh)
    if ready >= size:
        return aged
    if any(item.crowded_out for item in fresh) and len(aged) + ready >= size:
        return sorted(aged, key=lambda item: item.since)[:1]
    return []


def _can_retire(member: Member) -> bool:
    """Whether somebody decides it: the runner of a ready one; one that is held has none.

    To one in between, a call may come before we hear that it runs.
    """
    return member.phase is Phase.READY or bool(member.obstacle)


def _is_aged(member: Member, target: Target, now: float) -> bool:
    """Each at an age of its own, so that a pool made at once is not replaced at once."""
    return now - member.since > target.max_idle_seconds * (1 - _JITTER + 2 * _JITTER * _spread(member))


def _spread(member: Member) -> float:
    """0 to 1, the same for every replica."""
    return zlib.crc32(member.name.encode()) / 2**32


def _surplus(fresh: Iterable[Member], count: int) -> list[Member]:
    """Those to part with: what does not start first, then what has waited longest."""
    order = sorted(
        filter(_can_retire, fresh), key=lambda item: (not item.obstacle, item.phase is Phase.READY, item.since)
    )
    return order[: max(0, count)]


@dataclass(slots=True)
class Demand:
    """Measures how fast sandboxes are taken, for a pool that sizes itself. Instants in seconds."""

    _rate: float = 0.0
    _at: float | None = None

    def arrived(self, now: float) -> None:
        """A call came for one more sandbox, that waited or was made for it."""
        self._rate = self.rate(now) + 1 / _RATE_SECONDS
        self._at = now

    def rate(self, now: float) -> float:
        """Arrivals per second of late."""
        if self._at is None:
            return 0.0
        return self._rate * max(0.0, 1 - (now - self._at) / _RATE_SECONDS)

    def size(self, settings: PoolSettings, replacement_seconds: float | None, now: float) -> int:
        """How many should wait: enough for the arrivals in the time a replacement takes."""
        if settings.size is not None:
            return settings.size
        expected = self.rate(now) * (replacement_seconds or 1.0)
        return min(settings.ceiling, settings.floor + ceil(expected + _SPREAD * sqrt(expected)))


@dataclass(slots=True)
class Pace:
    """Measures how fast sandboxes are made. Instants in seconds, of one clock.

    Each counts with the time that it took beyond the one before it: time in which none was being made counts for none,
    so a pool that nobody uses is not taken for a slow one.
    """

    replacement_seconds: float | None = None
    """From the beginning of its making to ready, a running mean."""
    _spent: deque[float] = field(default_factory=lambda: deque(maxlen=_PACE_COUNT))
    _last_ready: float = -inf

    def became_ready(self, began: float, now: float) -> None:
        """One more is ready whose making began then."""
        self.replacement_seconds = _mean(self.replacement_seconds, now - began)
        self._spent.append(now - max(began, self._last_ready))
        self._last_ready = now

    @property
    def refill_per_second(self) -> float | None:
        """How many became ready a second while any was being made; None before the first."""
        seconds = sum(self._spent)
        return len(self._spent) / seconds if seconds > 0 else None


def _mean(before: float | None, newest: float) -> float:
    return newest if before is None else (1 - _WEIGHT) * before + _WEIGHT * newest
