"""What else the machine did while a benchmark ran."""

from __future__ import annotations

import asyncio
import collections
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

CLIENT, SERVICE = "this client", "the service"
_QUIET_PERCENT, _QUIET_SECONDS, _PATIENCE_SECONDS = 15.0, 0.5, 20.0


async def wait_quiet() -> None:
    """Wait until this machine is all but idle for half a second, for 20 s at most: used pods may be coming down."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    psutil.cpu_percent()
    while time.monotonic() < deadline:
        await asyncio.sleep(_QUIET_SECONDS)
        if psutil.cpu_percent() < _QUIET_PERCENT:
            return


@dataclass(frozen=True, slots=True)
class Weather:
    """CPU seconds so far: of all cores, of busy ones, and of each process. ``memory``: the service's bytes."""

    total: float
    busy: float
    processes: Mapping[psutil.Process, tuple[str, float]]  # name, CPU seconds
    memory: int

    @classmethod
    def now(cls, service_pid: int) -> Self:
        """Look. Pid 0: the service is not ours to look at."""
        fields = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        tick = os.sysconf("SC_CLK_TCK")
        names = {os.getpid(): CLIENT, service_pid: SERVICE} if service_pid else {os.getpid(): CLIENT}
        processes = {}
        for process in psutil.process_iter(["pid", "name", "cmdline", "cpu_times"]):
            if (times := process.info["cpu_times"]) is not None:
                name = names.get(process.info["pid"]) or _name(process.info["name"], process.info["cmdline"] or [])
                processes[process] = name, times.user + times.system
        memory = psutil.Process(service_pid).memory_info().rss if service_pid else 0
        return cls(sum(fields) / tick, (sum(fields) - fields[3] - fields[4]) / tick, processes, memory)

    def since(self, earlier: Weather) -> str:
        """In words, from then to now, the busiest first; what has ended since can't be told by name."""
        total = (self.total - earlier.total) or 1.0
        used: collections.Counter[str] = collections.Counter()
        for process, (name, seconds) in self.processes.items():
            used[name] += 100 * (seconds - earlier.processes.get(process, (name, 0.0))[1]) / total
        busy = 100 * (self.busy - earlier.busy) / total
        busiest = {CLIENT: used.pop(CLIENT), SERVICE: used.pop(SERVICE, 0.0), **dict(used.most_common(7))}
        named = ", ".join(f"{name} {share:.0f} %" for name, share in busiest.items() if share >= 0.5)
        rest = max(0.0, busy - sum(busiest.values()))
        load = " ".join(f"{value:.2f}" for value in os.getloadavg())
        return f"CPU {busy:.0f} % busy: {named}; the rest and what has ended {rest:.0f} %; load now {load}"


def _name(name: str, command: Sequence[str]) -> str:
    """What to count it under: kernel workers together, and the parts of Kubernetes if one binary has them all."""
    if name.startswith("kworker/"):
        return "kworker"
    if name.startswith("kube") and len(command) > 1 and not command[1].startswith("-"):
        return command[1]
    return name
