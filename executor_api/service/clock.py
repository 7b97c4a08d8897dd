"""Where instants, execution ids and waiting times between attempts come from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ulid import ULID


def new_ulid(now: float) -> str:
    """A fresh ULID for an instant in seconds since the epoch."""
    return str(ULID.from_timestamp(now))


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and names as the service sees them."""

    now: Callable[[], float] = time.time
    """Seconds since the epoch, for records."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds from some point, for durations."""
    new_id: Callable[[float], str] = new_ulid
    """An execution id for an instant; ids sort by it."""


def backoff(first: float = 0.02, most: float = 1.0) -> Iterator[float]:
    """Yield seconds to wait before each next attempt, doubling up to ``most``."""
    while True:
        yield first
        first = min(first * 2, most)
