"""The token bucket: what may come at once, and how fast for long."""

from __future__ import annotations

from math import inf

import pytest

from executor_api.domain.tenant import TenantLimits
from executor_api.domain.token_bucket import TokenBucket


def arrivals(bucket: TokenBucket, *instants: float) -> list[float]:
    """How long each that comes at these instants has to wait; those that need not take a token."""
    full_at, waits = -inf, []
    for now in instants:
        waits.append(bucket.wait(full_at, now))
        if not waits[-1]:
            full_at = bucket.taken(full_at, now)
    return waits


def test_a_full_bucket_lets_its_burst_through_and_then_one_a_pace() -> None:
    """Four at once, then none for a quarter of a second, then one; who comes too early takes nothing."""
    bucket = TokenBucket(rate=4, burst=4)
    assert arrivals(bucket, *[100.0] * 6, 100.2, 100.25, 100.25) == pytest.approx([0] * 4 + [0.25, 0.25, 0.05, 0, 0.25])


def test_it_never_holds_more_than_its_burst() -> None:
    """A pause of an hour brings no more than one of a second."""
    bucket = TokenBucket(rate=2, burst=2)
    assert arrivals(bucket, 0, 0, 3600, 3600, 3600) == pytest.approx([0, 0, 0, 0, 0.5])


@pytest.mark.parametrize("start", [0.0, 1e6 / 3])
@pytest.mark.parametrize("rate", [0.1, 3, 7, 1000])
def test_as_many_as_it_says_go_through(start: float, rate: float) -> None:
    """Rounding costs nobody a token, wherever the clock stands."""
    bucket = TokenBucket(rate, burst=10)
    waits = arrivals(bucket, *[start] * 10, *(start + count / rate for count in range(1, 101)))
    assert not any(waits)


@pytest.mark.parametrize(("rate", "burst", "expected"), [(0.2, None, 1), (2.5, None, 3), (5, None, 5), (5, 1, 1)])
def test_without_a_burst_it_is_what_comes_in_a_second(rate: float, burst: int | None, expected: int) -> None:
    """At least one, or nobody would ever get through."""
    assert TenantLimits(rate=rate, burst=burst).bucket == TokenBucket(rate, expected)


def test_no_rate_needs_no_tokens() -> None:
    """There is nothing to take from."""
    assert TenantLimits().bucket is None
