"""What the watch has told: the latest snapshot of each sandbox's pod, and waiting for what one says next.

Level-triggered: whoever waits looks at the present state first and again after each change, so no change can be
missed between looking and waiting. A pod that is gone is remembered a while: somebody may have yet to ask how it ended.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable

from executor_api.backends.kubernetes.snapshot import PodSnapshot, parse_pod
from executor_api.backends.kubernetes.watch import Changed, Event, Listed, Troubled

REMEMBER_SECONDS = 120.0
HICCUP_SECONDS = 1.0
"""A watch that is interrupted no longer is no trouble: what happened meanwhile comes with the next one."""


class PodCache:
    """Pods by the name of their Job. ``clock`` gives monotonic seconds, ``heard`` is told how many pods there are."""

    def __init__(self, clock: Callable[[], float], heard: Callable[[int], None]) -> None:
        self._heard = heard
        self._clock = clock
        self._pods: dict[str, PodSnapshot] = {}
        self._gone_at: dict[str, float] = {}
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._listed = asyncio.Event()
        self._trouble: str | None = "the cluster's pods have not been listed yet"
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
            self._replace([parse_pod(item) for item in event.objects])
            self._listed.set()
        elif isinstance(event, Changed):
            self._put(dataclasses.replace(parse_pod(event.object), gone=event.deleted))
        if isinstance(event, Troubled):
            self._troubled_at = self._clock() if self._trouble is None else self._troubled_at
            self._trouble = str(event.error)
        else:
            self._trouble = None
            self._forget(self._clock())
            self._heard(len(self._pods) - len(self._gone_at))

    def get(self, job: str) -> PodSnapshot | None:
        """The pod of a Job as last seen; None if it has not been seen."""
        return self._pods.get(job)

    async def listed(self, seconds: float) -> bool:
        """Wait until the cache knows what was there before; False if that takes longer."""
        try:
            async with asyncio.timeout(seconds):
                await self._listed.wait()
        except TimeoutError:
            return False
        return True

    async def changed(self, job: str, seen: PodSnapshot | None, seconds: float) -> PodSnapshot | None:
        """The pod once it differs from what the caller has seen, or as it is after that many seconds."""
        return await self.wait(job, lambda pod: pod != seen, seconds)

    async def wait(self, job: str, enough: Callable[[PodSnapshot | None], bool], seconds: float) -> PodSnapshot | None:
        """The pod once ``enough`` says so, or as it is after that many seconds."""
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

    def _replace(self, pods: list[PodSnapshot]) -> None:
        present = {pod.uid for pod in pods}
        for pod in [pod for pod in self._pods.values() if pod.uid not in present]:
            self._put(dataclasses.replace(pod, gone=True))
        for pod in pods:
            self._put(pod)

    def _put(self, pod: PodSnapshot) -> None:
        known = self._pods.get(pod.job)
        if known is not None and known.uid != pod.uid:
            return  # a Job can come to have a second pod; the call is the first one's, and must not run again
        if pod.gone:
            self._gone_at.setdefault(pod.job, self._clock())
        else:
            self._gone_at.pop(pod.job, None)
        self._pods[pod.job] = pod
        for waiter in self._waiters.get(pod.job, ()):
            if not waiter.done():
                waiter.set_result(None)

    def _forget(self, now: float) -> None:
        """Drop the oldest of the gone; they stand in order of their going."""
        while self._gone_at:
            job, since = next(iter(self._gone_at.items()))
            if now - since < REMEMBER_SECONDS:
                return
            del self._gone_at[job], self._pods[job]
