"""Looks at processes again and again, at a cost of 1 % of a core or less."""

from __future__ import annotations

import operator
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from executor_api.processes.breakdown import count_by_function, count_by_parent, read_sleepers, worst_by_command
from executor_api.processes.cgroups import cgroup_name, read_pids
from executor_api.processes.descriptors import descriptor_survey
from executor_api.processes.growth import Forecast, Outlook
from executor_api.processes.names import Names
from executor_api.processes.pressure import Pressure, Usage
from executor_api.processes.process_table import read_process
from executor_api.processes.recent import Worst, noted
from executor_api.processes.scope import Scope, Seen
from executor_api.processes.stuck import StuckSince
from executor_api.processes.survey import Survey

_log = structlog.get_logger(__name__)

_REST = 110
"""The next look waits so many times the CPU time of the last: 1 % of a core, and something left for those who ask."""
_OVERDUE_SECONDS = 60.0
_CGROUPS_A_LOOK = 300
_WORST_CGROUPS = 10
_MACHINE = "machine"


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found. Maps of names hold ten at most, the worst first, and maybe ``other``."""

    at: float
    """Seconds since the epoch, at its end."""
    seconds: float
    """CPU time that it took."""
    processes: int
    threads: int | None
    orphans: int | None
    zombies: int
    zombies_by_parent: dict[str, int]
    stuck: int
    stuck_by_function: dict[str, int]
    longest_stuck: float
    """Seconds that one process is known to be in D state without a break; 0 if none is."""
    pressure: Pressure | None
    cgroups: dict[str, Usage]
    descriptors: dict[str, Usage]
    """By command, of its worst process."""
    outlooks: dict[str, Outlook]
    """``pids`` and ``descriptors``: of the limit that is reached first. Missing until watched for a minute."""


class Watched(NamedTuple):
    """How the watching goes."""

    last: Look | None
    looks: int
    failures: int
    hour: tuple[Worst, ...] = ()
    """The latest minute last; one without a look is missing."""


class Monitor:
    """Looks in a thread of its own from `start` on, ``interval`` seconds apart or more.

    ``clock`` tells seconds since any moment.
    """

    def __init__(self, scope: Scope, interval: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._scope = scope
        self._interval = interval
        self._clock = clock
        self._descriptors = descriptor_survey(scope.proc)
        self._cgroups: Survey[str] = Survey(read_pids, _CGROUPS_A_LOOK, _WORST_CGROUPS)
        self._stuck = StuckSince()
        self._parents, self._commands, self._cgroup_names = Names(), Names(), Names()
        self._pids_forecast, self._descriptors_forecast = Forecast(), Forecast()
        self._stopped = threading.Event()
        self._due = self._clock()
        self._failing = False
        self.watched = Watched(None, 0, 0)

    @property
    def overdue(self) -> float:
        """Seconds that a good look is late by; 0 if it is not. A read of ``proc`` hangs, or fails."""
        late = self._clock() - self._due
        return late if late > _OVERDUE_SECONDS else 0.0

    def start(self) -> None:
        """Start looking. Its thread ends with `stop` or with the process, whatever it waits for."""
        threading.Thread(target=self._run, name="process-monitor", daemon=True).start()

    def stop(self) -> None:
        """Look no more; a look that is on may end later."""
        self._stopped.set()

    def look(self) -> Look:
        """Take one look. Raises ``OSError`` if ``proc`` can't be read."""
        began, now = time.thread_time(), self._clock()
        seen = self._scope.look()
        sleepers = self._stuck.update(now, read_sleepers(seen.stuck, self._scope.proc))
        cgroups = self._cgroups.look(seen.cgroups)
        holders = self._descriptors.look(seen.pids)
        named: dict[str, Usage] = {}
        for folder, usage in cgroups.items():
            named.setdefault(cgroup_name(self._scope.cgroups_root, folder), usage)
        return Look(
            processes=len(seen.pids),
            threads=seen.threads,
            orphans=seen.orphans,
            zombies=len(seen.zombies),
            zombies_by_parent=self._parents.fold(now, count_by_parent(seen.zombies, self._scope.proc), operator.add),
            stuck=len(seen.stuck),
            stuck_by_function=count_by_function(len(seen.stuck), sleepers),
            longest_stuck=max(sleepers.values(), default=0.0),
            pressure=seen.pressure,
            cgroups=self._cgroup_names.fold(now, named, _first),
            descriptors=self._commands.fold(now, worst_by_command(holders, self._scope.proc), _first),
            outlooks=self._outlooks(now, seen, cgroups, holders),
            at=time.time(),
            seconds=time.thread_time() - began,
        )

    def _outlooks(
        self, now: float, seen: Seen, cgroups: dict[str, Usage], holders: dict[int, Usage]
    ) -> dict[str, Outlook]:
        pids: dict[Hashable, Usage] = dict(cgroups.items())
        found = {read_process(pid, self._scope.proc): usage for pid, usage in holders.items()}
        descriptors: dict[Hashable, Usage] = {(who.pid, who.started): usage for who, usage in found.items() if who}
        if seen.pressure and seen.pressure.pids:
            pids[_MACHINE] = seen.pressure.pids
        if seen.pressure and seen.pressure.descriptors:
            descriptors[_MACHINE] = seen.pressure.descriptors
        outlooks = {
            "pids": self._pids_forecast.update(now, pids),
            "descriptors": self._descriptors_forecast.update(now, descriptors),
        }
        return {resource: outlook for resource, outlook in outlooks.items() if outlook is not None}

    def _run(self) -> None:
        rest = 0.0
        while not self._stopped.wait(rest):
            began = time.thread_time()
            found = self._try()
            rest = max(self._interval, _REST * (time.thread_time() - began))
            if isinstance(found, Look):
                self._failing = False
                self._due = self._clock() + rest
                self._note(found)
            else:
                self._fail(found)

    def _try(self) -> Look | Exception:
        """Whatever goes wrong, the next look may be good; without its thread there would be none."""
        try:
            return self.look()
        except Exception as error:  # noqa: BLE001
            return error

    def _note(self, look: Look) -> None:
        """In one step: others read it meanwhile."""
        worst = Worst(int(look.at // 60), look.processes, look.zombies, look.stuck)
        looks, hour = self.watched.looks + 1, noted(self.watched.hour, worst)
        self.watched = self.watched._replace(last=look, looks=looks, hour=hour)

    def _fail(self, error: Exception) -> None:
        """Count it, and tell the first in a row."""
        if not self._failing:
            _log.error("could not look at the processes", proc=self._scope.proc, exc_info=error)
        self._failing = True
        self.watched = self.watched._replace(failures=self.watched.failures + 1)


def _first(worst: Usage, _: Usage) -> Usage:
    """They come the worst first."""
    return worst
