"""What this process saw of calls in the last hour, minute by minute. As much memory as an hour takes, and no more."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

from executor_api.domain.durations import Durations
from executor_api.domain.execution import Execution, Start
from executor_api.domain.outcome import Status

MINUTES = 60


class Figures:
    """Of calls that ended in some time, and how many ran and waited at once in it."""

    __slots__ = (
        "endings",
        "left_behind",
        "most_queued",
        "most_running",
        "starts",
        "totals",
        "unkillable",
        "zombies",
    )

    def __init__(self, running: int = 0, queued: int = 0) -> None:
        self.endings: Counter[str] = Counter()
        """Calls by reason; ``succeeded`` where there is none."""
        self.totals = Durations()
        """From acceptance to outcome."""
        self.starts: dict[Start, Durations] = {start: Durations() for start in Start}
        """From acceptance until the code ran, by how the call came by its sandbox."""
        self.left_behind = self.zombies = self.unkillable = 0
        """Processes that calls had left, as in their answers."""
        self.most_running, self.most_queued = running, queued

    def count(self, execution: Execution) -> None:
        """Count one that ended."""
        outcome = execution.outcome
        if outcome is None:
            return
        self.endings[(outcome.reason or Status.SUCCEEDED).value] += 1
        if execution.timings.total is not None:
            self.totals.add(execution.timings.total)
        if execution.start is not None and execution.started_at is not None:
            self.starts[execution.start].add(max(0.0, execution.started_at - execution.created_at) * 1000)
        if outcome.processes is not None:
            self.left_behind += outcome.processes["left_behind"]
            self.zombies += outcome.processes["zombies"]
            self.unkillable += outcome.processes["unkillable"]

    def merge(self, others: Figures) -> None:
        """Count theirs, too."""
        self.endings.update(others.endings)
        self.totals.merge(others.totals)
        for start, durations in others.starts.items():
            self.starts[start].merge(durations)
        self.left_behind += others.left_behind
        self.zombies += others.zombies
        self.unkillable += others.unkillable
        self.most_running = max(self.most_running, others.most_running)
        self.most_queued = max(self.most_queued, others.most_queued)


class LastHour:
    """Sixty minutes at most, the present one among them. ``now`` tells seconds since the epoch."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self.began = now()
        self.running = self.queued = 0
        """As they are now."""
        self._minutes: deque[Figures] = deque([Figures()], MINUTES)
        self._last = self._minute()

    def finished(self, execution: Execution) -> None:
        """An execution has its outcome."""
        self._present().count(execution)

    def run(self, n: int) -> None:
        """So many have a slot."""
        present, self.running = self._present(), n
        present.most_running = max(present.most_running, n)

    def queue(self, n: int) -> None:
        """So many wait for a slot."""
        present, self.queued = self._present(), n
        present.most_queued = max(present.most_queued, n)

    def minutes(self) -> Mapping[int, Figures]:
        """By the minute's number since the epoch, the present one last."""
        self._present()
        return dict(enumerate(self._minutes, self._last - len(self._minutes) + 1))

    def whole(self) -> Figures:
        """All of them together."""
        whole = Figures()
        for figures in self.minutes().values():
            whole.merge(figures)
        return whole

    def _present(self) -> Figures:
        """This minute's figures. A clock that was set back counts in the latest minute."""
        minute = self._minute()
        for _ in range(min(minute - self._last, MINUTES)):
            self._minutes.append(Figures(self.running, self.queued))
        self._last = max(self._last, minute)
        return self._minutes[-1]

    def _minute(self) -> int:
        return int(self._now() // 60)
