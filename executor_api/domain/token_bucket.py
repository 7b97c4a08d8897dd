"""A token bucket as one number: the instant at which it is full again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_NOTHING = 1e-6
"""Seconds that only rounding can make of a token that is there."""


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """Holds ``burst`` tokens at most, and gets ``rate`` of them a second. Whoever comes takes one, or waits.

    Its state is an instant in seconds, of the clock that ``now`` comes from: an instant that is past stands for a full
    bucket, whatever is known of it otherwise.
    """

    rate: float
    burst: int

    def wait(self, full_at: float, now: float) -> float:
        """Seconds until there is a token; 0 if there is one."""
        seconds = full_at - (self.burst - 1) / self.rate - now
        return seconds if seconds > _NOTHING else 0.0

    def taken(self, full_at: float, now: float) -> float:
        """The instant at which it is full again once a token is taken now."""
        return max(full_at, now) + 1 / self.rate
