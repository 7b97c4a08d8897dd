"""What a watch has told: the latest snapshot of each sandbox's pod, or Job, and waiting for what one says next.

Level-triggered: whoever waits looks at the present state first and again after each change, so no change can be
missed between looking and waiting. What is gone is remembered a while: somebody may have yet to ask how it ended.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Generic, TypeVar

from executor_api.backends.kubernetes.snapshot import JobSnapshot, PodSnapshot, Raw, parse_job, parse_pod
from executor_api.backends.kubernetes.watch import Changed, Event, Listed, Troubled

REMEMBER_SECONDS = 120.0
HICCUP_SECONDS = 1.0
"""A watch that is interrupted no longer is no trouble: what happened meanwhile comes with the next one."""


_S = TypeVar("_S", bound=PodSnapshot | JobSnapshot)


class Cache(Generic[_S]):
    """Objects of one kind by the name of their Job.

    ``clock`` gives monotonic seconds, ``heard`` is told how many objects there are. ``on_change`` gets each snapshot
    that differs from the one before.
    """

    def __init__(
        self, kind: str, parse: Callable[[Raw], _S], clock: Callable[[], float], heard: Callable[[int], None]
    ) -> None:
        self._parse: Callable[[Raw], _S] = parse
        self._heard = heard
        self._clock = clock
        self.on_change: Callable[[_S], None] = lambda _item: None
        self._items: dict[str, _S] = {}
        self._gone_at: dict[str, float] = {}
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._listed = asyncio.Event()
        self._trouble: str | None = f"the cluster's {kind} have not been listed yet"
        self._troubled_at = -HICCUP_SECONDS + clock()

    @property
    def trouble(self) -> str | None:
        """Why what is known may be old; None while the watch runs, or has stopped a moment ago."""
        return None if self._clock() - self._troubled_at < HICCUP_SECONDS else self._trouble

    async def follow(self, events: AsyncIterator[Event]) -> None:
        """Take in events as long as there are any."""
        async for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Take in one event and wake those who wait for it."""
        if isinstance(event, Listed):
            self._replace([self._parse(item) for item in event.objects])
            self._listed.set()
        elif isinstance(event, Changed):
            self._put(dataclasses.replace(self._parse(event.object), gone=event.deleted))
        if isinstance(event, Troubled):
            self._troubled_at = self._clock() if self._trouble is None else self._troubled_at
            self._trouble = str(event.error)
        else:
            self._trouble = None
            self._forget(self._clock())
            self._heard(len(self._items) - len(self._gone_at))

    def get(self, job: str) -> _S | None:
        """The object as last seen; None if it has not been seen."""
        return self._items.get(job)

    def all(self) -> Iterable[_S]:
        """All that are there."""
        return [item for item in self._items.values() if not item.gone]

    async def listed(self, seconds: float) -> bool:
        """Wait until the cache knows what was there before; False if that takes longer."""
        try:
            async with asyncio.timeout(seconds):
                await self._listed.wait()
        except TimeoutError:
            return False
        return True

    async def changed(self, job: str, seen: _S | None, seconds: float) -> _S | None:
        """The object once it differs from what the caller has seen, or as it is after that many seconds."""
        return await self.wait(job, lambda item: item != seen, seconds)

    async def wait(self, job: str, enough: Callable[[_S | None], bool], seconds: float) -> _S | None:
        """The object once ``enough`` says so, or as it is after that many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while not enough(self.get(job)):
                    await self._next_change(job)
        except TimeoutError:
            pass
        return self.get(job)

    async def _next_change(self, job: str) -> None:
        waiter = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(job, set())
        waiters.add(waiter)
        try:
            await waiter
        finally:
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(job, None)

    def _replace(self, items: list[_S]) -> None:
        present = {item.uid for item in items}
        for item in [item for item in self._items.values() if item.uid not in present]:
            self._put(dataclasses.replace(item, gone=True))
        for item in items:
            self._put(item)

    def _put(self, item: _S) -> None:
        known = self._items.get(item.key)
        if known is not None and known.uid != item.uid:
            return  # a Job can come to have a second pod; the call is the first one's, and must not run again
        if item.gone:
            self._gone_at.setdefault(item.key, self._clock())
        else:
            self._gone_at.pop(item.key, None)
        self._items[item.key] = item
        if item != known:
            self.on_change(item)
        for waiter in self._waiters.get(item.key, ()):
            if not waiter.done():
                waiter.set_result(None)

    def _forget(self, now: float) -> None:
        """Drop the oldest of the gone; they stand in order of their going."""
        while self._gone_at:
            job, since = next(iter(self._gone_at.items()))
            if now - since < REMEMBER_SECONDS:
                return
            del self._gone_at[job], self._items[job]


class PodCache(Cache[PodSnapshot]):
    """Pods by the name of their Job."""

    def __init__(self, clock: Callable[[], float], heard: Callable[[int], None]) -> None:
        super().__init__("pods", parse_pod, clock, heard)


class JobCache(Cache[JobSnapshot]):
    """Jobs by their name."""

    def __init__(self, clock: Callable[[], float], heard: Callable[[int], None]) -> None:
        super().__init__("Jobs", parse_job, clock, heard)
