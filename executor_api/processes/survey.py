"""Figures of more things than one look may read: the worst each time, the others in turn."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from executor_api.processes.pressure import Usage

Key = TypeVar("Key", bound=Hashable)


class Survey(Generic[Key]):
    """Reads by ``read``, which gives None for what is gone or of no concern.

    A look reads at most ``part`` things in turn, and beside them the ``worst`` that are known.
    """

    def __init__(self, read: Callable[[Key], Usage | None], part: int, worst: int) -> None:
        self._read = read
        self._part = part
        self._most = worst
        self._next = 0
        self._known: dict[Key, Usage] = {}

    def look(self, keys: Sequence[Key]) -> dict[Key, Usage]:
        """The worst of these by what is known, the worst first."""
        if self._known:
            there = set(keys)
            self._known = {key: usage for key, usage in self._known.items() if key in there}
        for key in {*self._worst(), *self._turn(keys)}:
            usage = self._read(key)
            if usage is None:
                self._known.pop(key, None)
            else:
                self._known[key] = usage
        return {key: self._known[key] for key in self._worst()}

    def _worst(self) -> list[Key]:
        return heapq.nlargest(self._most, self._known, key=lambda key: self._known[key].share)

    def _turn(self, keys: Sequence[Key]) -> Sequence[Key]:
        start = self._next if self._next < len(keys) else 0
        self._next = start + self._part
        return keys[start : self._next]
