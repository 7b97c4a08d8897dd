"""Percentiles and tables for the benchmarks."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

Value = TypeVar("Value")


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank; NaN if there is no value."""
    if not values:
        return math.nan
    ranked = sorted(values)
    return ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)]


def windows(points: Iterable[tuple[float, Value]], width: float) -> list[list[Value]]:
    """Values of (instant, value) by the window their instant falls into; instants count from 0, gaps stay empty."""
    found: list[list[Value]] = []
    for instant, value in points:
        place = int(instant // width)
        found.extend([] for _ in range(place + 1 - len(found)))
        found[place].append(value)
    return found


def milliseconds(action: Callable[[], object]) -> float:
    """How long it took."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def print_row(name: str, values: Sequence[float]) -> None:
    """One line: name, count, p50, p95, p99, most; in milliseconds."""
    figures = "  ".join(f"{percentile(values, percent):9.2f}" for percent in (50, 95, 99, 100))
    print(f"{name:44}  {len(values):6}  {figures}")


def print_title(title: str) -> None:
    """Title and the machine's load."""
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"\n{title}   ({os.cpu_count()} cores, load {load})")


def print_header(title: str) -> None:
    """Title, the machine's load, and the columns."""
    print_title(title)
    print(f"{'':44}  {'n':>6}  " + "  ".join(f"{name:>9}" for name in ("p50 ms", "p95", "p99", "max")))
