"""When an execution passed which point, and the durations that follow."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from executor_api.backends.base import SandboxTimings
from executor_api.domain.execution import Timings
from executor_api.domain.passage import Passage, Point
from executor_api.service.clock import Clock
from executor_runner.protocol.shapes import Report


@dataclass(frozen=True, slots=True)
class Overhead:
    """Milliseconds that the service itself added: request in to dispatch, and report to outcome recorded."""

    before: float
    after: float


def merged(earlier: Timings, later: Timings) -> Timings:
    """The later figures, and the earlier where there are no later ones: what an earlier life has measured."""
    known = {item.name: value for item in fields(later) if (value := getattr(later, item.name)) is not None}
    return replace(earlier, **known)


class Timeline:
    """Instants of one execution, marked as it passes them; ``earlier`` is what another life saw of it."""

    def __init__(self, clock: Clock, earlier: Passage | None = None) -> None:
        self._monotonic = clock.monotonic
        self._epoch = clock.now() - clock.monotonic()
        self._marks: dict[Point, float] = {}
        self._passed = list(earlier or ())
        self.mark(Point.ARRIVED if earlier is None else Point.TAKEN_UP)

    @property
    def passed(self) -> Passage:
        """All points that it passed, also those that it came back to, and those of an earlier life."""
        return tuple(self._passed)

    def mark(self, point: Point) -> None:
        """Note that the execution passes ``point`` now. For durations only the first time counts."""
        now = self._monotonic()
        self._marks.setdefault(point, now)
        if not self._passed or self._passed[-1][0] != point:
            self._passed.append((point, self._epoch + now))

    def began(self, report: Report | None) -> float | None:
        """When the child began, in seconds since the epoch: the word of it comes late, and never early."""
        began = self._began(report)
        return None if began is None else self._epoch + began

    def between(self, earlier: Point, later: Point) -> float | None:
        """Milliseconds from one point to the other; None if it did not pass both in this process."""
        if earlier not in self._marks or later not in self._marks:
            return None
        return round((self._marks[later] - self._marks[earlier]) * 1000, 3)

    def timings(self, sandbox: SandboxTimings, report: Report | None = None, total: float | None = None) -> Timings:
        """The phases as far as they are known; ``total`` is in ms too, from wherever it was counted."""
        return Timings(
            queue=self._queued(sandbox.waited),
            claim=self._claimed(report),
            create=sandbox.create,
            schedule=sandbox.schedule,
            start=sandbox.start,
            run=report and report["run_ms"],
            collect=report and report["collect_ms"],
            total=total,
        )

    def _claimed(self, report: Report | None) -> float | None:
        dispatched, began = self._marks.get(Point.DISPATCHED), self._began(report)
        return None if dispatched is None or began is None else round((began - dispatched) * 1000, 3)

    def _began(self, report: Report | None) -> float | None:
        heard, reported = self._marks.get(Point.RUNNING), self._marks.get(Point.REPORTED)
        if heard is None or reported is None or report is None:
            return heard
        measured = reported - (report["run_ms"] + report["collect_ms"]) / 1000
        return max(self._marks.get(Point.DISPATCHED, measured), min(heard, measured))

    def _queued(self, waited: float | None) -> float | None:
        """For a slot, and then for a sandbox of the pool."""
        admitted = self.between(Point.ACCEPTED, Point.ADMITTED)
        return None if admitted is None else admitted + (waited or 0.0)

    def overhead(self) -> Overhead | None:
        """What the service added; None if the call was not dispatched and reported in this process."""
        accepting = self.between(Point.ARRIVED, Point.ACCEPTED)
        dispatching = self.between(Point.READY, Point.DISPATCHED)
        recording = self.between(Point.REPORTED, Point.FINISHED)
        if accepting is None or dispatching is None or recording is None:
            return None
        return Overhead(before=round(accepting + dispatching, 3), after=recording)
