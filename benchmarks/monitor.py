"""What does the process monitor cost at 30,000 processes, one of which has files that block whoever reads them?

The processes are a made-up tree in memory; `--real 5000` starts so many real ones instead.

PYTHONPATH=tests python benchmarks/monitor.py
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from figures import milliseconds, percentile, print_header, print_row
from prometheus_client.parser import text_string_to_metric_families
from support.proc_tree import ProcTree

from executor_api.processes.monitor import Monitor
from executor_api.processes.process_table import PROC
from executor_api.processes.scope import Machine

ZOMBIES, STUCK, PARENTS = 400, 20, 25
MOST_MILLISECONDS, MOST_PERCENT = 300.0, 1.0
"""What a look may take, and the monitor of a core."""
_SCRAPE_SECONDS = 5.0


def main() -> int:
    """Return 1 if a look or the monitor costs too much, or a figure is not what was made."""
    arguments = _arguments()
    place = _real(arguments.real) if arguments.real else _made_up(arguments.processes)
    with place as proc:
        number = sum(name.isdigit() for name in os.listdir(proc))  # noqa: PTH208 - as the monitor counts
        print_header(f"one look at {number} processes of {proc}")
        look = _measure_looks(proc, arguments.looks)
        percent = _measure_command(proc, arguments.seconds)
    print(f"the monitor took {percent:.2f} % of a core ({MOST_PERCENT:g} at most will do)")
    return 0 if look <= MOST_MILLISECONDS and percent <= MOST_PERCENT else 1


def _measure_looks(proc: str, looks: int) -> float:
    monitor = Monitor(Machine(proc))
    cpus: list[float] = []
    walls = [milliseconds(lambda: cpus.append(monitor.look().seconds * 1000)) for _ in range(looks)]
    print_row("wall time", walls)
    print_row("CPU time", cpus)
    print(f"its median may be {MOST_MILLISECONDS:g} ms")
    return percentile(walls, 50)


def _measure_command(proc: str, seconds: float) -> float:
    """Percent of a core from after the first look on, scrapes included."""
    command = [sys.executable, "-m", "executor_api", "monitor", "--port", "0", "--proc", proc]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None  # noqa: S101 - a pipe was asked for
            url = process.stderr.readline().split()[-1]
            while not (first := _scrape(url))["agent_monitor_looks_total"]:
                time.sleep(0.1)
            _check(first, proc)
            began, last = time.monotonic(), first
            while time.monotonic() - began < seconds or last["agent_monitor_looks_total"] < 3:
                time.sleep(_SCRAPE_SECONDS)
                last = _scrape(url)
            spent = last["process_cpu_seconds_total"] - first["process_cpu_seconds_total"]
            percent = 100 * spent / (time.monotonic() - began)
            memory = last["process_resident_memory_bytes"] / 2**20
            print(f"{last['agent_monitor_looks_total']:.0f} looks, {memory:.0f} MiB of memory")
        finally:
            process.terminate()
    return percent


def _check(found: dict[str, float], proc: str) -> None:
    if proc == PROC:
        return
    made = {"agent_zombie_processes": ZOMBIES, "agent_d_state_processes": STUCK}
    if any(found[name] != value for name, value in made.items()):
        raise SystemExit(f"made {made}, exported {found}")


def _scrape(url: str) -> dict[str, float]:
    families = text_string_to_metric_families(httpx.get(url, timeout=30).text)
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


@contextlib.contextmanager
def _made_up(number: int) -> Iterator[str]:
    """So many processes, among them zombies, hogs and those in D state, of which one has files that block."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder in it is private
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        proc = ProcTree(Path(folder))
        for pid in range(2, number + 1):
            if pid <= PARENTS + 1:
                proc.add(pid, name=f"agent-{pid}")
                proc.open_descriptors(pid, 10 * pid)
            elif pid <= PARENTS + 1 + ZOMBIES:
                proc.add(pid, state="Z", parent=2 + pid % PARENTS)
            elif pid <= PARENTS + 1 + ZOMBIES + STUCK:
                proc.stick(pid)
            else:
                proc.add(pid, parent=2 + pid % PARENTS)
        _block(proc.folder / str(PARENTS + 1 + ZOMBIES + STUCK))
        yield str(proc)


def _block(process: Path) -> None:
    """FIFOs that nobody writes to."""
    (process / "wchan").unlink()
    for name in ("wchan", "cmdline", "environ", "maps", "smaps", "status"):
        os.mkfifo(process / name)


@contextlib.contextmanager
def _real(number: int) -> Iterator[str]:
    """Processes that sleep."""
    found = [subprocess.Popen(["sleep", "3600"], close_fds=False) for _ in range(number)]
    try:
        yield PROC
    finally:
        for process in found:
            process.kill()
        for process in found:
            process.wait()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--processes", type=int, default=30_000, help="processes of the made-up tree")
    add("--real", type=int, default=0, help="so many real processes instead")
    add("--looks", type=int, default=20, help="looks that are timed one by one")
    add("--seconds", type=float, default=120.0, help="how long the command is watched")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
