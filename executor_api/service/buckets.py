"""Token buckets by name. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from executor_api.domain.token_bucket import TokenBucket

_FEW = 1024
"""Buckets that are not worth looking through."""


class Buckets:
    """Those that are full again are forgotten. ``monotonic`` gives seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._full_at: dict[str, float] = {}
        self._enough = _FEW

    def take(self, name: str, bucket: TokenBucket) -> float:
        """Take a token; seconds until there is one, and nothing is taken, if there is none now."""
        now, full_at = self._monotonic(), self._full_at.get(name, -inf)
        wait = bucket.wait(full_at, now)
        if not wait:
            self._full_at[name] = bucket.taken(full_at, now)
            self._forget(now)
        return wait

    def _forget(self, now: float) -> None:
        if len(self._full_at) > self._enough:
            self._full_at = {name: at for name, at in self._full_at.items() if at > now}
            self._enough = max(_FEW, 2 * len(self._full_at))
