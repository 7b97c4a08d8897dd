"""How fast each tenant calls, held against what it may. No I/O."""

from __future__ import annotations

from collections.abc import Callable

from executor_api.domain.tenant import TenantLimits
from executor_api.errors import RateLimitedError
from executor_api.service.buckets import Buckets
from executor_api.service.promises import Promises


class Rates:
    """A token bucket for each tenant. ``monotonic`` gives seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._buckets = Buckets(monotonic)
        self._promises = Promises(monotonic)

    def take(self, tenant: str, limits: TenantLimits) -> None:
        """Take the token that one call needs. Raises `RateLimitedError` if there is none."""
        bucket = limits.bucket
        wait = self._buckets.take(tenant, bucket) if bucket is not None else 0.0
        if bucket is None or not wait:
            return
        pace = 1 / bucket.rate
        raise RateLimitedError(
            f"this tenant may make {bucket.rate:g} calls a second, and {bucket.burst} at once after a pause",
            self._promises.seconds(tenant, wait - pace, pace),
        )
