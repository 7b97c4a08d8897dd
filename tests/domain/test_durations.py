"""Percentiles in little memory."""

from __future__ import annotations

import random
from math import ceil

import pytest

from executor_api.domain.durations import Durations


def durations(*found: float) -> Durations:
    made = Durations()
    for milliseconds in found:
        made.add(milliseconds)
    return made


def test_none_have_no_percentiles() -> None:
    """Nothing is said of what was never measured."""
    assert (Durations().number, Durations().percentile(0.5)) == (0, None)


@pytest.mark.parametrize("share", [0.5, 0.95, 1.0])
def test_a_percentile_is_near_the_true_one(share: float) -> None:
    """Of many durations from 0.1 ms to an hour it is 4 % off at most."""
    chance = random.Random(1)  # noqa: S311 - any durations will do
    found = sorted(0.1 * 10 ** chance.uniform(0, 7.5) for _ in range(5000))
    true = found[ceil(len(found) * share) - 1]
    assert durations(*found).percentile(share) == pytest.approx(true, rel=0.04)


def test_what_is_too_short_to_measure_counts() -> None:
    """Zero, or a clock that went back, is the shortest duration."""
    assert durations(0, -3).percentile(1) == pytest.approx(0.01, rel=0.04)


def test_those_of_several_minutes_make_those_of_the_hour() -> None:
    """Merged they are as if counted at once."""
    parts = durations(1, 2, 3), durations(400)
    whole = Durations()
    for part in parts:
        whole.merge(part)
    assert whole.number == 4
    assert [whole.percentile(share) for share in (0.5, 1)] == [
        durations(1, 2, 3, 400).percentile(share) for share in (0.5, 1)
    ]
