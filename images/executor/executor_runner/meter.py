"""What one call used: processor time, memory, and whether the kernel took something for want of it."""

from __future__ import annotations

import signal

from executor_runner.cgroup import MemoryGroup
from executor_runner.process import Ending, Reaper
from executor_runner.protocol.shapes import Usage

_SHELL_KILLED = 128 + signal.SIGKILL


class Meter:
    """Reads the counters before the call, which a sandbox that is used again has from the calls before as well.

    ``group`` is the control group that has the memory limit; ``follows``: the sandbox has had a call before.
    """

    def __init__(self, reaper: Reaper, group: MemoryGroup | None, *, follows: bool) -> None:
        self._reaper = reaper
        self._group = group
        self._oom_kills = group.oom_kills() if group else 0
        self._peak_before = group.peak_bytes() if group and follows else 0
        self._cpu_before = reaper.cpu_seconds()
        reaper.largest_bytes = 0

    def usage(self, peak: int) -> Usage:
        """By now; ``peak`` is the guard's, of all calls: it is this call's only if it has risen."""
        own_peak = peak if peak > self._peak_before else 0
        return Usage(
            cpu_seconds=round(self._reaper.cpu_seconds() - self._cpu_before, 6),
            peak_memory_bytes=max(own_peak, self._reaper.largest_bytes),
        )

    def killed_for_memory(self, ending: Ending | None) -> bool:
        """Whether the kernel was faster than the guard: it leaves a SIGKILL, and a count in the control group."""
        if self._group is None or ending is None or self._group.oom_kills() <= self._oom_kills:
            return False
        return ending.signal == signal.SIGKILL or ending.exit_code == _SHELL_KILLED
