"""The guard's decisions, with a process tree and a control group that the test makes up."""

# ruff: noqa: D102  the protocol that the crowd follows says what its methods mean

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from executor_runner.cgroup import MemoryGroup, memory_group
from executor_runner.guard import LONGEST_POLL, SHORTEST_POLL, Guard
from executor_runner.protocol.shapes import Limits

MIB = 1 << 20


@dataclass
class Crowd:
    """A tree of so many processes, none of which can be signalled."""

    count: int = 0
    killed: list[int] = field(default_factory=list)

    def pids(self) -> list[int]:
        return [(1 << 30) + number for number in range(self.count)]

    def signal_all(self, number: int) -> None:
        self.killed.append(number)

    def kill_all(self) -> None:
        self.signal_all(9)


def limits(**changes: Any) -> Limits:
    found: dict[str, Any] = {
        "memory_bytes": None,
        "storage_bytes": None,
        "processes": 100,
        "open_files": 64,
        "output_bytes": 1024,
        "output_kill_bytes": None,
        "artifact_bytes": 1024,
        "value_bytes": 1024,
    }
    return Limits(**{**found, **changes})  # type: ignore[typeddict-item]


def group(root: Path, used: int, cache: int = 0) -> MemoryGroup:
    (root / "memory.max").write_text(f"{512 * MIB}")
    (root / "memory.current").write_text(f"{used}")
    (root / "memory.stat").write_text(f"inactive_file {cache}\nactive_file 0\n")
    found = memory_group(root)
    assert found is not None
    return found


def test_as_many_processes_as_allowed_are_fine() -> None:
    """The limit is the most that may be; one more ends the call."""
    crowd = Crowd(5)
    guard = Guard(limits(processes=5), crowd, None, [])
    assert guard.look() is None
    crowd.count = 6
    verdict = guard.look()
    assert verdict is not None
    assert (verdict.cause, verdict.message) == ("process_limit", "more than 5 processes at once")


def test_memory_ends_the_call_before_the_kernel_does(tmp_path: Path) -> None:
    """Where the kernel enforces the limit, the guard is first, and says how much was in use of how much."""
    guard = Guard(limits(memory_bytes=512 * MIB), Crowd(1), group(tmp_path, 490 * MIB), [])
    verdict = guard.look()
    assert verdict is not None
    assert (verdict.cause, verdict.message) == ("out_of_memory", "490 MiB in use of a memory limit of 512 MiB")


def test_page_cache_is_no_reason_to_end_a_call(tmp_path: Path) -> None:
    """Memory that the kernel can take back does not count."""
    guard = Guard(limits(memory_bytes=512 * MIB), Crowd(1), group(tmp_path, 510 * MIB, cache=300 * MIB), [])
    assert guard.look() is None


def test_the_nearer_the_limit_the_sooner_the_next_look(tmp_path: Path) -> None:
    """Looks are frequent only where a fast process could reach the limit in between."""
    folder = tmp_path
    guard = Guard(limits(memory_bytes=512 * MIB), Crowd(1), group(folder, 1 * MIB), [])
    guard.look()
    far = guard.next_look
    group(folder, 470 * MIB)
    guard.look()
    assert SHORTEST_POLL <= guard.next_look < far <= LONGEST_POLL


def test_the_peak_is_remembered(tmp_path: Path) -> None:
    """The peak comes from the kernel where it knows it."""
    (tmp_path / "memory.peak").write_text(f"{400 * MIB}")
    assert Guard(limits(memory_bytes=512 * MIB), Crowd(1), group(tmp_path, 1), []).peak_bytes() == 400 * MIB


SHARING = """
import mmap, os, sys, time
memory = mmap.mmap(-1, 64 << 20)
memory.write(bytes(64 << 20))
child = os.fork()
if child == 0:
    memory.seek(0)
    memory.read()
print(flush=True)
time.sleep(60)
"""


@dataclass
class Family(Crowd):
    """Two real processes that share memory."""

    members: tuple[int, ...] = ()

    def pids(self) -> list[int]:
        return list(self.members)


@pytest.mark.parametrize(("limit", "ends"), [(60, True), (120, False)])
def test_shared_memory_counts_once(limit: int, *, ends: bool) -> None:
    """Memory that processes share is theirs, yet not each one's, where no control group counts it."""
    with subprocess.Popen([sys.executable, "-c", SHARING], stdout=subprocess.PIPE, start_new_session=True) as parent:
        try:
            assert parent.stdout is not None
            parent.stdout.readline()
            parent.stdout.readline()
            children = psutil.Process(parent.pid).children()
            family = Family(members=(parent.pid, *(child.pid for child in children)))
            verdict = Guard(limits(memory_bytes=limit * MIB), family, None, []).look()
        finally:
            os.killpg(parent.pid, signal.SIGKILL)
    assert (verdict.cause if verdict else None) == ("out_of_memory" if ends else None)


def test_without_limits_nothing_is_broken(tmp_path: Path) -> None:
    """No limit, no verdict."""
    (tmp_path / "big").write_bytes(bytes(MIB))
    assert Guard(limits(), Crowd(50), None, [tmp_path]).look() is None


@pytest.mark.parametrize(("size", "ends"), [(3 * MIB, True), (1 * MIB, False)])
def test_the_disk_is_measured_in_all_folders(tmp_path: Path, size: int, *, ends: bool) -> None:
    """Files at any depth of every folder count, by the room they take."""
    for name in ("one", "two"):
        folder = tmp_path / name / "deep" / "er"
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(bytes(size // 2))
    guard = Guard(limits(storage_bytes=2 * MIB), Crowd(1), None, [tmp_path / "one", tmp_path / "two"])
    verdict = look_until(guard, time.monotonic() + 60) if ends else guard.look()
    assert (verdict.cause if verdict else None) == ("storage_limit" if ends else None)


def look_until(guard: Guard, deadline: float) -> Any:
    while time.monotonic() < deadline:
        verdict = guard.look()
        if verdict is not None:
            return verdict
    return None


def test_a_sparse_file_takes_no_room(tmp_path: Path) -> None:
    """A file's size is not the room it takes."""
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100 * MIB)
    assert Guard(limits(storage_bytes=2 * MIB), Crowd(1), None, [tmp_path]).look() is None


def test_links_count_once_and_are_not_followed(tmp_path: Path) -> None:
    """Neither a second name of a file nor a link to a folder makes it count twice, and a loop ends."""
    (tmp_path / "file").write_bytes(bytes(3 * MIB // 2))
    (tmp_path / "again").hardlink_to(tmp_path / "file")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert Guard(limits(storage_bytes=2 * MIB), Crowd(1), None, [tmp_path]).look() is None
