"""Since when processes are in D state (uninterruptible sleep), by looks at them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Sleeper(NamedTuple):
    """A process in D state. ``ran`` changes whenever it runs; ``function`` is the kernel's that it sleeps in."""

    pid: int
    started: int
    ran: bytes
    function: str


class StuckSince:
    """Remembers from look to look. Whoever ran in between, as a reader of a busy disk does, begins anew."""

    def __init__(self) -> None:
        self._since: dict[tuple[int, int, bytes], float] = {}

    def update(self, now: float, sleepers: Iterable[Sleeper]) -> dict[Sleeper, float]:
        """Seconds that each is known to be stuck: at least so long, less than one look longer."""
        known = {sleeper: self._since.get(sleeper[:3], now) for sleeper in sleepers}
        self._since = {sleeper[:3]: since for sleeper, since in known.items()}
        return {sleeper: now - since for sleeper, since in known.items()}
