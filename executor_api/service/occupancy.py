"""How many executions of each tenant hold a slot, and for how long such do. No I/O."""

from __future__ import annotations

from collections import Counter

_WEIGHT = 0.1
"""How much the newest service time counts in a running mean."""
_UNMEASURED = 1.0
"""Seconds a call is taken to need before one was measured."""


class Occupancy:
    """What is known of a tenant is forgotten when none of its executions holds a slot any more."""

    def __init__(self) -> None:
        self.total = 0
        """Slots in use."""
        self._running: Counter[str] = Counter()
        self._means: dict[str, float] = {}
        self._mean: float | None = None

    def of(self, tenant: str) -> int:
        """Slots that the tenant holds."""
        return self._running[tenant]

    def seconds(self, tenant: str | None = None) -> float:
        """How long an execution, or one of the tenant, holds its slot."""
        mean = self._means.get(tenant, self._mean) if tenant is not None else self._mean
        return _UNMEASURED if mean is None else mean

    def begin(self, tenant: str) -> None:
        """One more has a slot."""
        self.total += 1
        self._running[tenant] += 1

    def end(self, tenant: str, seconds: float) -> None:
        """One has given it back, so long after it got it."""
        self._mean = _mean(self._mean, seconds)
        self._means[tenant] = _mean(self._means.get(tenant), seconds)
        self.total -= 1
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant], self._means[tenant]


def _mean(mean: float | None, seconds: float) -> float:
    return seconds if mean is None else (1 - _WEIGHT) * mean + _WEIGHT * seconds
