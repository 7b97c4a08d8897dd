"""How fast something grows, and when it runs out at this rate. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from executor_api.processes.pressure import Usage

_WINDOW_SECONDS = 900.0
_LEAST_SECONDS = 60.0
"""A rate by less than this says little."""
_PARTS = 3


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

        What is missing from ``usages`` for ``least`` seconds is forgotten.
        """
        recent = now - self._least
        self._points = {key: points for key, points in self._points.items() if key in usages or points[-1][0] > recent}
        found = []
        for key, usage in usages.items():
            points = self._points.setdefault(key, deque())
            points.append((now, usage.used))
            while points[0][0] < now - self._window:
                points.popleft()
            if now - points[0][0] >= self._least and len(points) > _PARTS:
                found.append(_outlook(usage, lasting_growth(list(points))))
        return min(found, key=lambda outlook: (outlook.seconds_left, -outlook.per_second), default=None)


def lasting_growth(points: Sequence[tuple[float, int]]) -> float:
    """What one second adds in the third of these looks that adds least: a single step is no growth.

    There must be four points of different times.
    """
    cuts = [part * (len(points) - 1) // _PARTS for part in range(_PARTS + 1)]
    return min(slope(points[begin : end + 1]) for begin, end in pairwise(cuts))


def slope(points: Sequence[tuple[float, int]]) -> float:
    """What one second adds, by least squares. There must be two points of different time."""
    middle = sum(time for time, _ in points) / len(points)
    mean = sum(value for _, value in points) / len(points)
    above = sum((time - middle) * (value - mean) for time, value in points)
    return above / sum((time - middle) ** 2 for time, _ in points)


def _outlook(usage: Usage, per_second: float) -> Outlook:
    left = max(0, usage.limit - usage.used)
    return Outlook(per_second, left / per_second if per_second > 0 else math.inf)
