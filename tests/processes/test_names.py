"""Names that are told as labels: what changes in them from process to process, and how many there may be."""

from __future__ import annotations

import operator

import pytest

from executor_api.processes.names import Names, steady

DAY = 86_400


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("kworker/u4:3-events", "kworker/u4:3-events"),
        ("python3.11", "python3.11"),
        ("aarch64-linux-gnu", "aarch64-linux-gnu"),
        ("deadbeef", "deadbeef"),
        ("x-8317.py", "x-*.py"),
        ("agent20481", "agent*"),
        ("job-0a1b2c3d", "job-*"),
        ("550e8400-e29b-4", "*-*-4"),
        ("(sd-pam) 123 ab", "(sd-pam) * ab"),
    ],
)
def test_what_changes_in_a_name_is_a_star(name: str, told: str) -> None:
    """Pids, times and ids do; versions, numbers of processors and words do not."""
    assert steady(name) == told


def test_one_name_too_many_is_other() -> None:
    """Those that were there before keep their own figures, and no figure is lost."""
    names = Names(most=2)
    assert names.fold(0, {"a": 5, "b": 3, "c": 2, "d": 1}, operator.add) == {"a": 5, "b": 3, "other": 3}
    assert names.fold(1, {"d": 4, "b": 1}, operator.add) == {"other": 4, "b": 1}


def test_a_name_not_told_for_a_day_makes_room() -> None:
    """One that is told on and on keeps its place."""
    names = Names(most=2)
    names.fold(0, {"gone": 1, "stays": 1}, max)
    assert set(names.fold(DAY - 1, {"stays": 1, "new": 1}, max)) == {"stays", "other"}
    assert set(names.fold(DAY, {"stays": 1, "new": 1, "newer": 2}, max)) == {"stays", "new", "other"}
