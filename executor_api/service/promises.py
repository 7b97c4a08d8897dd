"""What those who were turned away have been told: each a later instant than the one before. No I/O."""

from __future__ import annotations

from collections.abc import Callable

MOST_BEHIND = 60.0
"""Seconds that one is put behind others who were told to come again: a crowd that does not heed it never comes then."""


class Promises:
    """The last instant promised to anybody of a kind. ``monotonic`` gives seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._promised: dict[str, float] = {}

    def seconds(self, kind: str, ahead: float, pace: float) -> float:
        """Seconds to tell one more of its kind: behind what is ``ahead`` of it, and one pace behind the last one told.

        Promises whose time has come are forgotten.
        """
        now = self._monotonic()
        self._promised = {name: at for name, at in self._promised.items() if at > now}
        alone = now + ahead
        behind = min(max(alone, self._promised.get(kind, alone)), alone + MOST_BEHIND)
        promised = self._promised[kind] = behind + pace
        return promised - now
