"""The figures that benchmarks print."""

from __future__ import annotations

import math

from benchmarks.figures import percentile, windows


def test_a_percentile_is_a_value_that_was_measured() -> None:
    """Nearest rank: the smallest value that so many percent of all are not above."""
    values = [50.0, 15.0, 40.0, 20.0, 35.0]
    assert [percentile(values, percent) for percent in (5, 30, 40, 50, 100)] == [15, 20, 20, 35, 50]
    assert percentile([7.0], 99) == 7
    assert math.isnan(percentile([], 50))


def test_values_fall_into_the_window_of_their_instant() -> None:
    """A window has its first instant and not its last; one without values stays, empty."""
    assert windows([(0.0, "a"), (9.9, "b"), (10.0, "c"), (35.0, "d")], 10.0) == [["a", "b"], ["c"], [], ["d"]]
