"""How fast something grows, and when it runs out at this rate. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Mapping
from typing import NamedTuple

from executor_api.processes.pressure import Usage

_WINDOW_SECONDS = 900.0
_LEAST_SECONDS = 60.0
"""A rate by less than this says little."""


class Outlook(NamedTuple):
    """What becomes of something: ``seconds_left`` is infinite if it does not grow."""

    per_second: float
    seconds_left: float


class Forecast:
    """Figures of some things over the last ``window`` seconds, and which of them runs out first."""

    def __init__(self, window: float = _WINDOW_SECONDS, least: float = _LEAST_SECONDS) -> None:
        self._window = window
        self._least = least
        self._points: dict[Hashable, deque[tuple[float, int]]] = {}

    def update(self, now: float, usages: Mapping[Hashable, Usage]) -> Outlook | None:
        """The outlook of the one that runs out first, or else grows most; None until any was watched long enough.

        What is missing from ``usages`` is forgotten.
        """
        self._points = {key: self._points.get(key, deque()) for key in usages}
        found = []
        for key, usage in usages.items():
            points = self._points[key]
            points.append((now, usage.used))
            while points[0][0] < now - self._window:
                points.popleft()
            if now - points[0][0] >= self._least:
                found.append(_outlook(usage, slope(points)))
        return min(found, key=lambda outlook: (outlook.seconds_left, -outlook.per_second), default=None)


def slope(points: deque[tuple[float, int]]) -> float:
    """What one second adds, by least squares. There must be two points of different time."""
    middle = sum(time for time, _ in points) / len(points)
    mean = sum(value for _, value in points) / len(points)
    above = sum((time - middle) * (value - mean) for time, value in points)
    return above / sum((time - middle) ** 2 for time, _ in points)


def _outlook(usage: Usage, per_second: float) -> Outlook:
    left = max(0, usage.limit - usage.used)
    return Outlook(per_second, left / per_second if per_second > 0 else math.inf)
