"""Percentiles and tables for the benchmarks."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)]


def milliseconds(action: Callable[[], object]) -> float:
    """How long it took."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def print_row(name: str, values: Sequence[float]) -> None:
    """One line: name, count, p50, p95, p99, most; in milliseconds."""
    figures = "  ".join(f"{percentile(values, percent):9.2f}" for percent in (50, 95, 99, 100))
    print(f"{name:44}  {len(values):6}  {figures}")


def print_header(title: str) -> None:
    """Title, the machine's load, and the columns."""
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"\n{title}   ({os.cpu_count()} cores, load {load})")
    print(f"{'':44}  {'n':>6}  " + "  ".join(f"{name:>9}" for name in ("p50 ms", "p95", "p99", "max")))
