"""A small event loop: descriptors and timers, one thread. asyncio would double the runner's start time."""

from __future__ import annotations

import heapq
import itertools
import selectors
import time
from collections.abc import Callable

Callback = Callable[[], None]

_SWEEP = 256
"""So many timers are kept before those that were cancelled are looked for."""


class Timer:
    """A callback that is due once; `cancel` makes it never."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Forget the callback."""
        self.callback = None


class Loop:
    """Runs callbacks when descriptors are ready and timers are due, until `stop`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._sweep_at = _SWEEP
        self._running = True

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Run the callback once, that many seconds from now."""
        timer = Timer(callback)
        if len(self._timers) >= self._sweep_at:
            self._sweep()
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def watch(self, descriptor: int, *, read: Callback | None = None, write: Callback | None = None) -> None:
        """Set what runs when the descriptor is readable or writable; with neither, stop watching it."""
        events = (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)
        known = descriptor in self._selector.get_map()
        if not events:
            if known:
                self._selector.unregister(descriptor)
        elif known:
            self._selector.modify(descriptor, events, (read, write))
        else:
            self._selector.register(descriptor, events, (read, write))

    def stop(self) -> None:
        """Make `run` return after the current callback."""
        self._running = False

    def close(self) -> None:
        """Give the selector's descriptor back."""
        self._selector.close()

    def run(self) -> None:
        """Serve until `stop`."""
        while self._running:
            for key, ready in self._selector.select(self._patience()):
                self._serve(key.fd, ready)
            self._run_timers()

    def _serve(self, descriptor: int, ready: int) -> None:
        """Run what is watched now: a callback of this very round may have changed it, or closed the descriptor."""
        for event, index in ((selectors.EVENT_READ, 0), (selectors.EVENT_WRITE, 1)):
            key = self._selector.get_map().get(descriptor) if ready & event else None
            callback = key.data[index] if key is not None else None
            if callback is not None:
                callback()

    def _sweep(self) -> None:
        """Forget cancelled timers: a call leaves some that would only be due long after it."""
        self._timers = [item for item in self._timers if item[2].callback is not None]
        heapq.heapify(self._timers)
        self._sweep_at = 2 * len(self._timers) + _SWEEP

    def _patience(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return max(0.0, self._timers[0][0] - time.monotonic())

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, timer = heapq.heappop(self._timers)
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
