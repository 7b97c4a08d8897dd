"""Who takes part in the incident: agents, those who watch them, and what should hold of it all."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents import Load
from alarms import Alarms
from figures import print_title
from small_machine import SmallMachine
from witnesses import FIGURES, Count, Witnesses


class Agent:
    """One of ``agents.py`` in the small machine; the pid is the one that it has there."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = int(self._hear()["pid"])

    def make_calls(self) -> dict[str, int]:
        """Have it make all its calls; how many ended how."""
        assert self._process.stdin is not None  # noqa: S101 - pipes were asked for
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        endings: dict[str, int] = self._hear()["endings"]
        return endings

    def end(self) -> None:
        """Let it end by itself."""
        self._process.communicate()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - pipes were asked for
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("an agent has ended before its time; what it said stands above")
        heard: dict[str, Any] = json.loads(line)
        return heard


@dataclass
class Play:
    """One run of it. ``columns`` are those of the table in the end."""

    machine: SmallMachine
    seen: Witnesses
    alarms: Alarms | None
    folder: Path
    scale: float
    port: int
    columns: dict[str, Count] = field(default_factory=dict)
    failed: int = 0

    def __post_init__(self) -> None:
        self.load = Load.of(self.scale, self.port)
        self.before = self.seen.count()

    def begin(self, stage: str, title: str) -> None:
        """Name what comes, on the screen and in the samples."""
        self.seen.stage = stage
        print_title(title)

    def check(self, words: str, *, holds: bool, but: object = "") -> None:
        """Say whether it holds; if not, what there is instead."""
        self.failed += not holds
        print(f"  {'ok    ' if holds else 'FAILED'}  {words}" + ("" if holds else f"; but: {but}"), flush=True)

    @contextlib.contextmanager
    def agent(self, kind: str) -> Iterator[Agent]:
        """One of that kind, with the limits of the small machine."""
        program = str(Path(__file__).with_name("agents.py"))
        words = (sys.executable, program, kind, str(self.scale), str(self.port), str(self.folder))
        with self.machine.start(*words, limited=True) as process:
            try:
                yield Agent(process)
            finally:
                process.kill()

    def expected_alerts(self) -> set[str]:
        """Names of those that such a machine must raise."""
        zombies = self.load.made()["zombies"]
        wanted = {"AgentProcessStuck": True, "AgentProcessDescriptorsAlmostOut": True}
        wanted |= {"AgentZombiesWarning": zombies >= 50, "AgentZombiesCritical": zombies >= 100}
        wanted |= {"AgentCgroupPidsAlmostOut": self.machine.limited is not None}
        return {name for name, holds in wanted.items() if holds}

    def check_as_before(self, stage: str) -> None:
        """Wait until the machine is as it was before all this."""
        wanted = {name: self.before[name] for name in (*FIGURES, "close_wait")}
        now = self.seen.count_until(lambda count: all(count[name] == wanted[name] for name in wanted))
        left = {name: now[name] for name in wanted}
        self.columns[stage] = now | {"descriptors": ""}
        self.check(f"the machine is as before: {wanted}", holds=left == wanted, but=left)
