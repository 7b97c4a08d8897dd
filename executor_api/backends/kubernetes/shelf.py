"""Sandboxes for reuse between two calls: each belongs to one tenant, and waits for that tenant's next call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from executor_api.domain.plan import Plan, SandboxResources


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose sandbox it is, and of which template: only a call with the same may have it."""

    tenant: str
    template_digest: str
    resources: SandboxResources


@dataclass(slots=True)
class Kept:
    """One sandbox: how many calls it has had, the last of them, and since when it is this tenant's."""

    job: str
    owner: Owner
    since: float
    calls: int = 0
    last: str = ""


@dataclass(slots=True)
class Shelf:
    """Idle sandboxes by owner, the last used on top. ``retire`` parts with one. Instants are monotonic seconds.

    ``usable`` tells of one, by its Job, whether it can serve a call of so many seconds.
    """

    retire: Callable[[Kept], Coroutine[Any, Any, None]]
    clock: Callable[[], float]
    usable: Callable[[str, float], bool]
    _idle: dict[Owner, list[Kept]] = field(default_factory=dict)
    _timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    _retiring: set[asyncio.Task[None]] = field(default_factory=set)

    def take(self, owner: Owner, call_seconds: float) -> Kept | None:
        """The one that was used last, if it is still there and will be for so long."""
        idle = self._idle.get(owner, [])
        while idle:
            kept = idle.pop()
            self._timers.pop(kept.job).cancel()
            if not idle:
                self._idle.pop(owner, None)
            if self.usable(kept.job, call_seconds):
                return kept
            self._part_with(kept)
        return None

    def put(self, kept: Kept, plan: Plan) -> bool:
        """Keep it for the next call; False if it has served long enough."""
        limits = plan.template.reuse
        if kept.calls >= limits.max_calls or self.clock() - kept.since > limits.max_age_seconds:
            return False
        self._idle.setdefault(kept.owner, []).append(kept)
        loop = asyncio.get_running_loop()
        self._timers[kept.job] = loop.call_later(limits.max_idle_seconds, self._expire, kept)
        return True

    def discard(self, kept: Kept) -> None:
        """Part with one that is not on the shelf."""
        self._part_with(kept)

    async def clear(self) -> None:
        """Part with all."""
        for kept in [kept for idle in self._idle.values() for kept in idle]:
            self._timers.pop(kept.job).cancel()
            self._part_with(kept)
        self._idle.clear()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def _expire(self, kept: Kept) -> None:
        del self._timers[kept.job]
        idle = self._idle[kept.owner]
        idle.remove(kept)
        if not idle:
            del self._idle[kept.owner]
        self._part_with(kept)

    def _part_with(self, kept: Kept) -> None:
        task = asyncio.create_task(self.retire(kept))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
