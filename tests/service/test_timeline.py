"""The durations of an execution, from the instants at which it passed its points and from what the runner measured."""

from __future__ import annotations

import pytest
from support.reports import report

from executor_api.backends.base import SandboxTimings
from executor_api.domain.passage import Point
from executor_api.service.clock import Clock
from executor_api.service.timeline import Timeline


class Passing:
    """A timeline whose clock says what it is told. Its monotonic clock began at 1000 s since the epoch."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.timeline = Timeline(Clock(now=lambda: 1000.0 + self.seconds, monotonic=lambda: self.seconds))

    def mark(self, point: Point, seconds: float) -> None:
        """It passes the point then."""
        self.seconds = seconds
        self.timeline.mark(point)


@pytest.mark.parametrize(
    ("heard", "run_ms", "began"),
    [
        (0.030, 12.0, 0.016),  # the word of the start came along with the report
        (0.020, 9.0, 0.019),  # it came a little late
        (0.015, 9.0, 0.015),  # it came at once, and the way of the report took the rest
        (0.030, 500.0, 0.010),  # a clock that jumped: never before it was sent
    ],
)
def test_a_start_that_was_heard_of_late_is_dated_back(heard: float, run_ms: float, began: float) -> None:
    """How long a call took to begin does not count what it ran, whenever its runner says that it began."""
    passing = Passing()
    passing.mark(Point.DISPATCHED, 0.010)
    passing.mark(Point.RUNNING, heard)
    passing.mark(Point.REPORTED, 0.030)
    found = report(run_ms=run_ms, collect_ms=2.0)
    timings = passing.timeline.timings(SandboxTimings(), found)
    assert (timings.claim, timings.run) == (pytest.approx((began - 0.010) * 1000), run_ms)
    assert passing.timeline.began(found) == pytest.approx(1000 + began)


def test_without_a_report_a_start_is_when_it_was_heard_of() -> None:
    """What is not known better is told as it was seen."""
    passing = Passing()
    assert passing.timeline.began(None) is None
    passing.mark(Point.DISPATCHED, 0.010)
    passing.mark(Point.RUNNING, 0.030)
    assert passing.timeline.timings(SandboxTimings()).claim == pytest.approx(20)
    assert passing.timeline.began(None) == pytest.approx(1000.030)
