"""What else the machine did while a benchmark ran."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil


@dataclass(frozen=True, slots=True)
class Weather:
    """CPU seconds so far: of all cores and busy ones, of this client, of the service. Memory in bytes."""

    total: float
    busy: float
    client: float
    service: float
    memory: int

    @classmethod
    def now(cls, service_pid: int) -> Self:
        """Look. Pid 0: the service is not ours to look at."""
        fields = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        tick = os.sysconf("SC_CLK_TCK")
        own = os.times()
        service, memory = 0.0, 0
        if service_pid:
            process = psutil.Process(service_pid)
            service, memory = sum(process.cpu_times()[:4]), process.memory_info().rss
        return cls(sum(fields) / tick, (sum(fields) - fields[3] - fields[4]) / tick, sum(own[:2]), service, memory)

    def since(self, earlier: Weather) -> str:
        """In words, from then to now."""
        total = (self.total - earlier.total) or 1.0
        busy, client, service = (
            100 * (getattr(self, name) - getattr(earlier, name)) / total for name in ("busy", "client", "service")
        )
        others = max(0.0, busy - client - service)
        load = " ".join(f"{value:.2f}" for value in os.getloadavg())
        return (
            f"CPU {busy:.0f} % busy: this client {client:.0f} %, the service {service:.0f} %, all else {others:.0f} % "
            f"(sandboxes, cluster, strangers); load now {load}"
        )
