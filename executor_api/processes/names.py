"""Which names of commands and cgroups become labels: each new one makes a series that Prometheus keeps. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

Figure = TypeVar("Figure")

OTHER = "other"
_MOST = 100
_KEPT_SECONDS = 86_400.0
_CHANGING = re.compile(r"(?<![0-9A-Za-z])(?=[a-f]*[0-9])[0-9a-f]{4,}(?![0-9A-Za-z])|[0-9]{3,}")


def steady(name: str) -> str:
    """With ``*`` for numbers and ids, of which there is no end: pids, times, hashes. ``python3`` stays as it is."""
    return _CHANGING.sub("*", name)


class Names:
    """Names of one kind that are told: ``most`` at a time, each until a day after it was told last."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._told: dict[str, float] = {}

    def fold(
        self, now: float, figures: Mapping[str, Figure], join: Callable[[Figure, Figure], Figure]
    ) -> dict[str, Figure]:
        """Figures by name, joined under ``other`` where a name would be one too many. ``now``: seconds."""
        self._told = {name: at for name, at in self._told.items() if now - at < _KEPT_SECONDS}
        found: dict[str, Figure] = {}
        for name, figure in figures.items():
            if name in self._told or len(self._told) < self._most:
                self._told[name] = now
                label = name
            else:
                label = OTHER
            found[label] = join(found[label], figure) if label in found else figure
        return found
