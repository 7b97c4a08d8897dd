"""How fast each tenant calls, held against what it may. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from executor_api.domain.tenant import TenantLimits
from executor_api.errors import RateLimitedError
from executor_api.service.promises import Promises

_FEW = 1024
"""Buckets that are not worth looking through."""


class Rates:
    """A token bucket for each tenant; those that are full again are forgotten. ``monotonic`` gives seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._full_at: dict[str, float] = {}
        self._enough = _FEW
        self._promises = Promises(monotonic)

    def take(self, tenant: str, limits: TenantLimits) -> None:
        """Take the token that one call needs. Raises `RateLimitedError` if there is none."""
        bucket, now = limits.bucket, self._monotonic()
        if bucket is None:
            return
        full_at = self._full_at.get(tenant, -inf)
        wait = bucket.wait(full_at, now)
        if wait:
            pace = 1 / bucket.rate
            raise RateLimitedError(
                f"this tenant may make {bucket.rate:g} calls a second, and {bucket.burst} at once after a pause",
                self._promises.seconds(tenant, wait - pace, pace),
            )
        self._full_at[tenant] = bucket.taken(full_at, now)
        self._forget(now)

    def _forget(self, now: float) -> None:
        if len(self._full_at) > self._enough:
            self._full_at = {tenant: at for tenant, at in self._full_at.items() if at > now}
            self._enough = max(_FEW, 2 * len(self._full_at))
