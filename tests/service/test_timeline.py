"""The durations of an execution, from the instants at which it passed its points and from what the runner measured."""

from __future__ import annotations

import pytest

from executor_api.backends.base import SandboxTimings
from executor_api.domain.passage import Point
from executor_api.service.clock import Clock
from executor_api.service.timeline import Timeline
from executor_runner.protocol.shapes import Report


def report(run_ms: float, collect_ms: float) -> Report:
    """A report of which only the durations matter."""
    return Report(
        version=1,
        execution_id="x1",
        cause=None,
        message="",
        exit_code=0,
        signal=None,
        stdout_bytes=0,
        stderr_bytes=0,
        stdout_dropped_bytes=0,
        stderr_dropped_bytes=0,
        run_ms=run_ms,
        collect_ms=collect_ms,
        usage={"cpu_seconds": 0.0, "peak_memory_bytes": 0},
        processes={"left_behind": 0, "zombies": 0, "unkillable": 0},
    )


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
    found = report(run_ms, 2.0)
    passing.timeline.date_start(found)
    timings = passing.timeline.timings(SandboxTimings(), found)
    assert (timings.claim, timings.run) == (pytest.approx((began - 0.010) * 1000), run_ms)
    points = dict(passing.timeline.passed)
    assert points[Point.RUNNING] == pytest.approx(1000 + began)
    assert [*points.values()] == sorted(points.values())


def test_a_start_of_another_life_stays_as_it_was() -> None:
    """A process that did not send the call dates nothing."""
    passing = Passing()
    passing.mark(Point.RUNNING, 0.010)
    passing.mark(Point.REPORTED, 0.030)
    before = passing.timeline.passed
    passing.timeline.date_start(report(15.0, 1.0))
    assert passing.timeline.passed == before
