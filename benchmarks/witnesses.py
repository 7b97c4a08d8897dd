"""Two who count the same processes: `executor-api monitor`, and psutil in a process of its own."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from small_machine import SmallMachine

FIGURES = ("processes", "zombies", "d_state", "orphans")
"""What both tell of the whole machine."""
_EXPORTED = ("agent_processes", "agent_zombie_processes", "agent_d_state_processes", "agent_orphan_processes")
_LOOKS = "agent_monitor_looks_total"
_SECONDS = 90.0

Count = dict[str, Any]


class Witnesses:
    """Asks both, and keeps what they said."""

    def __init__(self, url: str, counter: subprocess.Popen[str]) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=30)
        self._counter = counter
        self._began = time.monotonic()
        self._looks = 0.0
        self._samples: list[list[object]] = []
        self.stage = "before"

    def count(self) -> Count:
        """What psutil counts."""
        assert self._counter.stdin is not None  # noqa: S101 - pipes were asked for
        assert self._counter.stdout is not None  # noqa: S101 - the same
        self._counter.stdin.write("\n")
        self._counter.stdin.flush()
        found: Count = json.loads(self._counter.stdout.readline())
        self._keep("psutil", found)
        return found

    def scrape(self) -> dict[str, float]:
        """The monitor's last look: samples by name, and by value of their label where they have one."""
        families = text_string_to_metric_families(self._client.get("/metrics").raise_for_status().text)
        found = {
            "/".join([sample.name, *sample.labels.values()]): sample.value
            for family in families
            for sample in family.samples
        }
        found |= {name: found[exported] for name, exported in zip(FIGURES, _EXPORTED, strict=True) if exported in found}
        if found[_LOOKS] > self._looks:
            self._looks = found[_LOOKS]
            self._keep("monitor", found)
        return found

    def look_anew(self) -> dict[str, float]:
        """The first look of the monitor that begins after this."""
        wanted = self.scrape()[_LOOKS] + 2  # one may be on
        return self._wait(self.scrape, lambda found: found[_LOOKS] >= wanted)

    def count_until(self, true: Callable[[Count], bool]) -> Count:
        """Count until it is so; whatever is so, when that takes too long."""
        return self._wait(self.count, true)

    def keep(self, folder: Path) -> Path:
        """Write the samples to a CSV file there."""
        folder.mkdir(exist_ok=True)
        path = folder / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["seconds", "stage", "by", *FIGURES, "descriptors", "close_wait"])
            writer.writerows(self._samples)
        return path

    def _keep(self, who: str, found: Count) -> None:
        figures = [found.get(name, "") for name in (*FIGURES, "descriptors", "close_wait")]
        self._samples.append([f"{time.monotonic() - self._began:.1f}", self.stage, who, *figures])

    @staticmethod
    def _wait(ask: Callable[[], Any], true: Callable[[Any], bool]) -> Any:
        deadline = time.monotonic() + _SECONDS
        while not true(found := ask()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return found


@contextlib.contextmanager
def witnesses(machine: SmallMachine, port: int) -> Iterator[Witnesses]:
    """Start both in there; sockets are counted that lead to ``port``. Each is killed by the end of the machine."""
    counter = str(Path(__file__).with_name("counting.py"))
    with (
        machine.start("sh", "-c", "exec executor-api monitor --port 0 2>&1") as monitor,
        machine.start(sys.executable, counter, str(port)) as counting,
    ):
        try:
            assert monitor.stdout is not None  # noqa: S101 - a pipe was asked for
            url = monitor.stdout.readline().split()[-1].removesuffix("/metrics")
            yield Witnesses(url, counting)
        finally:
            monitor.kill()
            counting.kill()
