"""The ways to load a service: one after another, all at once, at random or even instants, without a pause."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from calls import Caller, Reply


async def serial(caller: Caller, count: int, pause: float, between: Callable[[], None]) -> list[Reply]:
    """One call after another. ``between`` is called after each; then ``pause`` seconds for the pool to refill."""
    replies = []
    for _ in range(count):
        replies.append(await caller.call())
        between()
        await asyncio.sleep(pause)
    return replies


async def batches(
    caller: Caller, count: int, size: int, between: Callable[[], None], refilled: Callable[[], Awaitable[object]]
) -> list[Reply]:
    """``size`` calls right behind each other, ``between`` as many times, then wait for ``refilled``; and again."""
    replies: list[Reply] = []
    while len(replies) < count:
        batch = range(min(size, count - len(replies)))
        await refilled()
        replies += [await caller.call() for _ in batch]
        for _ in batch:
            between()
    return replies


async def burst(caller: Caller, count: int) -> list[Reply]:
    """All at once: the time of each counts from the one instant at which all were due."""
    intended = time.perf_counter()
    return await asyncio.gather(*(caller.call(intended) for _ in range(count)))


async def open_loop(caller: Caller, rate: float, seconds: float, rng: random.Random) -> list[Reply]:
    """Poisson arrivals, sent whether or not earlier ones are answered; each counts from when it was due."""
    due = time.perf_counter()
    end = due + seconds
    tasks = []
    async with asyncio.TaskGroup() as group:
        while (due := due + rng.expovariate(rate)) < end:
            await asyncio.sleep(due - time.perf_counter())
            tasks.append(group.create_task(caller.call(due)))
    return [task.result() for task in tasks]


async def closed_loop(callers: list[Caller], seconds: float) -> list[Reply]:
    """Each caller sends its next call when its last one is answered."""
    end = time.perf_counter() + seconds

    async def run(caller: Caller) -> list[Reply]:
        replies = []
        while time.perf_counter() < end:
            replies.append(await caller.call())
        return replies

    return [reply for replies in await asyncio.gather(*map(run, callers)) for reply in replies]


class Steady:
    """Calls at even distances, by the callers in turn, sent whether or not earlier ones are answered."""

    def __init__(self, callers: Sequence[Caller], rate: float) -> None:
        self._callers = itertools.cycle(callers)
        self._distance = 1 / rate
        self._held = self._stopped = False

    async def run(self) -> list[Reply]:
        """Send until stopped; the replies, once all are there. Each counts from when it was due."""
        due, tasks = time.perf_counter(), []
        self._stopped = False
        async with asyncio.TaskGroup() as group:
            while not self._stopped:
                if not self._held:
                    tasks.append(group.create_task(next(self._callers).call(due)))
                due += self._distance
                await asyncio.sleep(due - time.perf_counter())
        return [task.result() for task in tasks]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """No new calls meanwhile."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def stop(self) -> None:
        """Send no more."""
        self._stopped = True
