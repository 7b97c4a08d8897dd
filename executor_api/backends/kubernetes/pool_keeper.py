"""Keeps pools at their size: compares what is there with what should be, creates and retires. One replica does it.

Level-triggered: a round looks at everything, so nothing that was missed stays missed. Each creation is noted before it
is asked for, and counts until the watch shows it: a round that comes in between must not ask for it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from executor_api.backends.base import SandboxFailedError
from executor_api.backends.kubernetes.cache import JobCache
from executor_api.backends.kubernetes.leader import Leadership
from executor_api.backends.kubernetes.roster import Roster
from executor_api.backends.kubernetes.warm_pool import Sandboxes, WarmPool
from executor_api.domain.outcome import Evidence
from executor_api.domain.pool import NOTHING, Member, Phase, Target, plan_pool
from executor_api.domain.pool_settings import MissPolicy
from executor_api.errors import UnavailableError

ROUND_SECONDS = 1.0
"""The longest between two rounds."""
PAUSE_SECONDS = 0.25
"""From news to the round: calls that have just got their sandboxes go before the making of others."""
LISTEN_SECONDS = 1.0
"""How long a new keeper listens before its first round: its predecessor's last creations may be on their way."""
EXPECT_SECONDS = 30.0
"""How long a creation whose answer was lost is expected to show."""
LOOK_SECONDS = 5.0
"""Between looks at the events of a Job that has no pod, and how old it is before the first."""
ALONE_SECONDS = 30.0
"""How long one keeps without having been elected before it looks whether it could take part by now."""
RETIRE_AGAIN_SECONDS = 5.0
_SHORTEST_BACKOFF, _LONGEST_BACKOFF = 1.0, 60.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Hands:
    """What a keeper does in the cluster."""

    create: Callable[[Sandboxes, str], Awaitable[None]]
    """Make a sandbox of this name that waits. Raises `SandboxFailedError` and `UnavailableError`."""
    retire: Callable[[str], Awaitable[bool]]
    """Delete a sandbox, unless its runner has a call: then False. Raises `UnavailableError`."""
    look: Callable[[str], Awaitable[Evidence | None]]
    """Why a Job has no pod, if anything is known."""
    new_name: Callable[[], str]


@dataclass(slots=True)
class _Backoff:
    """Grows while creations fail."""

    seconds: float = 0.0
    until: float = 0.0

    def failed(self, now: float, most: float = _LONGEST_BACKOFF) -> None:
        if now >= self.until:  # of many that fail at once, one counts
            self.seconds = min(most, max(_SHORTEST_BACKOFF, 2 * self.seconds))
            self.until = now + self.seconds

    def worked(self) -> None:
        self.seconds = self.until = 0.0


@dataclass(slots=True)
class _Work:
    """What is under way for one template."""

    expected: dict[str, float] = field(default_factory=dict)  # by name: when it was asked for
    backoff: _Backoff = field(default_factory=_Backoff)
    unsure: list[str] = field(default_factory=list)  # asked for without an answer: perhaps made, perhaps not
    started: set[str] = field(default_factory=set)  # ours, not ready yet


class PoolKeeper:
    """Keeps the pools that ``pools`` returns. ``clock`` gives monotonic seconds, ``now`` seconds since the epoch."""

    def __init__(
        self,
        pools: Callable[[], Mapping[str, WarmPool]],
        roster: Roster,
        hands: Hands,
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._pools = pools
        self._roster = roster
        self._hands = hands
        self._clock = clock
        self._now = now
        self._work: dict[str, _Work] = {}
        self._retiring: set[str] = set()
        self._looked: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Something has changed."""
        self._news.set()

    async def run(self) -> None:
        """Keep until cancelled; what was asked for by then is still waited for."""
        try:
            await asyncio.sleep(LISTEN_SECONDS)
            while True:
                self._news.clear()
                self._round()
                await self._next()
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def forget(self) -> None:
        """Another one knows from now on what goes wrong."""
        for pool in self._pools().values():
            pool.mended()

    def desired(self, pool: WarmPool) -> int:
        """How many should wait, for the calls to come and for those that wait already."""
        settings = pool.sandboxes.template.pool
        waiting = pool.waiting_calls if settings.miss is MissPolicy.WAIT else 0
        replacement_seconds = self._roster.pace(pool.name).replacement_seconds
        return pool.demand.size(settings, replacement_seconds, self._now()) + waiting

    async def _next(self) -> None:
        try:
            async with asyncio.timeout(ROUND_SECONDS):
                await self._news.wait()
        except TimeoutError:
            pass

    def _round(self) -> None:
        pools = self._pools()
        for template in self._roster.templates() - pools.keys():
            self._part(NOTHING, self._roster.members(template))
        for pool in pools.values():
            self._keep(pool, self._work.setdefault(pool.name, _Work()))

    def _keep(self, pool: WarmPool, work: _Work) -> None:
        members, clock = self._roster.members(pool.name), self._clock()
        self._take_note(pool, work, members, clock)
        sandboxes = pool.sandboxes
        settings, longest = sandboxes.template.pool, sandboxes.template.longest_seconds
        target = Target(sandboxes.digest, self.desired(pool), settings.max_idle_seconds, longest)
        cold = self._roster.starting_cold(sandboxes.digest)
        missing = self._part(target, members, len(work.expected), cold)
        if clock >= work.backoff.until:
            for _ in range(missing):
                self._create(pool, work)
        self._look_at_late(item for item in members if item.phase is Phase.STARTING)

    def _part(self, target: Target, members: list[Member], expected: int = 0, cold: int = 0) -> int:
        """Part with those that should go. Returns how many are missing."""
        plan = plan_pool(target, members, expected, cold, self._now())
        by_name = {item.name: item for item in members}
        self._retire(by_name[name] for name in plan.retire if self._roster.is_over(name))
        return plan.create

    def _take_note(self, pool: WarmPool, work: _Work, members: list[Member], clock: float) -> None:
        """Strike out what was expected and is there; back off from what dies before it is ready."""
        for name, asked in list(work.expected.items()):
            if self._roster.has(name) or clock - asked > EXPECT_SECONDS:
                del work.expected[name]
        work.unsure = [name for name in work.unsure if not self._roster.has(name)]
        for item in members:
            if item.phase is Phase.STARTING or item.name not in work.started:
                continue
            work.started.discard(item.name)
            if item.phase is Phase.ENDED:
                work.backoff.failed(clock)
                pool.fails("ends", "sandboxes end as soon as they have started; see the log of one")
            else:
                work.backoff.worked()
                pool.mended()

    def _create(self, pool: WarmPool, work: _Work) -> None:
        """Under the name of one that may not have been made, so that it is not made twice."""
        name = work.unsure.pop() if work.unsure else self._hands.new_name()
        work.expected[name] = self._clock()
        work.started.add(name)
        self._spawn(self._created(pool, work, name))

    async def _created(self, pool: WarmPool, work: _Work, name: str) -> None:
        try:
            await self._hands.create(pool.sandboxes, name)
        except (SandboxFailedError, UnavailableError) as error:
            _log.warning("a sandbox for the pool could not be made", template=pool.name, error=str(error))
            pool.fails("creation", f"no sandbox can be made: {error}")
            work.started.discard(name)
            work.expected.pop(name, None)
            if isinstance(error, UnavailableError):  # which took its time
                work.unsure.append(name)
                work.backoff.failed(self._clock(), _SHORTEST_BACKOFF)
            else:
                work.backoff.failed(self._clock())

    def _retire(self, members: Iterable[Member]) -> None:
        for item in members:
            if item.name not in self._retiring:
                self._retiring.add(item.name)
                self._roster.arrivals.retire(item.name)
                self._spawn(self._retired(item.name))

    async def _retired(self, name: str) -> None:
        try:
            if not await self._hands.retire(name):
                self._roster.leave(name)  # another replica's call is in it
                self._roster.arrivals.keep(name)
        except UnavailableError as error:
            _log.warning("a sandbox could not be retired yet", sandbox=name, error=str(error))
            await asyncio.sleep(RETIRE_AGAIN_SECONDS)
        finally:
            self._retiring.discard(name)

    def _look_at_late(self, members: Iterable[Member]) -> None:
        clock = self._clock()
        for item in members:
            late = self._now() - item.since > LOOK_SECONDS and self._roster.pod(item.name) is None
            if late and clock - self._looked.get(item.name, -LOOK_SECONDS) >= LOOK_SECONDS:
                self._looked[item.name] = clock
                self._spawn(self._look(item.name))

    async def _look(self, name: str) -> None:
        self._roster.obstacles[name] = await self._hands.look(name)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("keeping a pool failed", exc_info=error)


async def keep_pools(leadership: Leadership, keeper: PoolKeeper, jobs: JobCache) -> None:
    """Keep the pools while leading, or where the election is closed to us, as if we were the only replica."""
    while not await jobs.listed(LISTEN_SECONDS):
        pass
    async with asyncio.TaskGroup() as group:
        group.create_task(leadership.run(functools.partial(_lead, keeper)))
        group.create_task(_keep_alone(leadership, keeper))


async def _lead(keeper: PoolKeeper) -> None:
    try:
        await keeper.run()
    finally:
        keeper.forget()


async def _keep_alone(leadership: Leadership, keeper: PoolKeeper) -> None:
    while True:
        if leadership.problem and not leadership.leading:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ALONE_SECONDS):
                    await keeper.run()
        await asyncio.sleep(LISTEN_SECONDS)
