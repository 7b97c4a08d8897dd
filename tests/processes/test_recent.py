"""The worst of each minute of the last hour."""

from __future__ import annotations

from executor_api.processes.recent import Worst, noted


def test_looks_of_one_minute_make_its_highest_figures() -> None:
    """Each figure on its own; a look by a clock that was set back counts in the latest minute."""
    hour: tuple[Worst, ...] = ()
    for look in (Worst(5, 10, 0, 3), Worst(5, 8, 2, 1), Worst(6, 1, 1, 1), Worst(2, 4, 0, 0)):
        hour = noted(hour, look)
    assert hour == (Worst(5, 10, 2, 3), Worst(6, 4, 1, 1))


def test_minutes_older_than_an_hour_go() -> None:
    """Sixty stay at most."""
    hour: tuple[Worst, ...] = ()
    for minute in range(100):
        hour = noted(hour, Worst(minute, 1, 0, 0))
    assert [worst.minute for worst in hour] == list(range(40, 100))
    assert noted(hour, Worst(500, 1, 0, 0)) == (Worst(500, 1, 0, 0),)
