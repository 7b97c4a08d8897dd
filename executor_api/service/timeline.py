"""When an execution passed which point, and the durations that follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from executor_api.backends.base import SandboxTimings
from executor_api.domain.execution import Timings
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
    """Monotonic instants of one execution, marked as it passes them."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._marks = {"arrived": monotonic()}

    def mark(self, point: str) -> None:
        """Note that the execution passes ``point`` now. Only the first time counts."""
        self._marks.setdefault(point, self._monotonic())

    def between(self, earlier: str, later: str) -> float | None:
        """Milliseconds from one point to the other; None if it did not pass both."""
        if earlier not in self._marks or later not in self._marks:
            return None
        return round((self._marks[later] - self._marks[earlier]) * 1000, 3)

    def timings(self, sandbox: SandboxTimings, report: Report | None = None, total: float | None = None) -> Timings:
        """The phases as far as they are known; ``total`` is in ms too, from wherever it was counted."""
        return Timings(
            queue=self._queued(sandbox.waited),
            claim=self.between("dispatched", "running"),
            create=sandbox.create,
            schedule=sandbox.schedule,
            start=sandbox.start,
            run=report and report["run_ms"],
            collect=report and report["collect_ms"],
            total=total,
        )

    def _queued(self, waited: float | None) -> float | None:
        """For a slot, and then for a sandbox of the pool."""
        admitted = self.between("accepted", "admitted")
        return None if admitted is None else admitted + (waited or 0.0)

    def overhead(self) -> Overhead | None:
        """What the service added; None if the call was not dispatched and reported in this process."""
        accepting = self.between("arrived", "accepted")
        dispatching = self.between("ready", "dispatched")
        recording = self.between("reported", "finished")
        if accepting is None or dispatching is None or recording is None:
            return None
        return Overhead(before=round(accepting + dispatching, 3), after=recording)
