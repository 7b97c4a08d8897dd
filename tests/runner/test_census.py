"""Reading processes out of /proc trees made by hand: names that lie, processes that vanish, files that are cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from executor_runner.census import (
    PAGE,
    Process,
    descendants,
    processes,
    proportional_bytes,
    resident_bytes,
    shared_memory_bytes,
)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    add(tmp_path, 1, 0, name="init")
    return tmp_path


def add(proc: Path, pid: int, parent: int, state: str = "S", name: str = "x") -> Path:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "stat").write_text(f"{pid} ({name}) {state} {parent} {pid} {pid} 0 -1 4194560 0 0\n")
    return folder


def test_a_name_cannot_lie_about_parent_or_state(proc: Path) -> None:
    """A process may call itself anything, brackets, spaces and newlines included."""
    add(proc, 7, 1, "Z", name="evil) R 99 (")
    add(proc, 8, 7, "D", name="a\nb")
    assert sorted(processes(str(proc)), key=lambda process: process.pid) == [
        Process(1, 0, "S", 1),
        Process(7, 1, "Z", 7),
        Process(8, 7, "D", 8),
    ]


def test_what_vanishes_meanwhile_is_left_out(proc: Path) -> None:
    """A process without a stat file has just ended; files that are no processes don't matter."""
    (proc / "5").mkdir()
    (proc / "self").mkdir()
    (proc / "meminfo").write_text("")
    assert [process.pid for process in processes(str(proc))] == [1]


def test_without_a_proc_there_is_nobody(tmp_path: Path) -> None:
    """Where there is no /proc, nobody is seen and nothing fails."""
    assert list(processes(str(tmp_path / "none"))) == []
    assert descendants(1, str(tmp_path / "none")) == []


def test_descendants_are_found_at_any_depth(proc: Path) -> None:
    """Children's children count, strangers and the root itself do not."""
    for pid, parent in ((10, 1), (11, 10), (12, 11), (13, 10), (20, 1), (21, 20)):
        add(proc, pid, parent)
    assert sorted(process.pid for process in descendants(10, str(proc))) == [11, 12, 13]
    assert sorted(process.pid for process in descendants(1, str(proc))) == [10, 11, 12, 13, 20, 21]
    assert descendants(13, str(proc)) == []


def test_own_and_shared_memory_are_told_apart(proc: Path) -> None:
    """Pages of files and of other processes are counted apart; a process without statm counts nothing."""
    (add(proc, 30, 1) / "statm").write_text("1000 300 100 1 0 200 0\n")
    (add(proc, 31, 1) / "statm").write_text("")
    assert resident_bytes(30, str(proc)) == (200 * PAGE, 100 * PAGE)
    assert resident_bytes(31, str(proc)) == (0, 0)
    assert resident_bytes(99, str(proc)) == (0, 0)


def test_shared_memory_is_no_file(proc: Path) -> None:
    """Of what is shared, memory is told from files."""
    (add(proc, 35, 1) / "status").write_text("Name:\tx\nRssAnon:\t  10 kB\nRssFile:\t  20 kB\nRssShmem:\t  30 kB\n")
    assert shared_memory_bytes(35, str(proc)) == 30 * 1024
    assert shared_memory_bytes(99, str(proc)) == 0


def test_shared_memory_is_split_among_its_users(proc: Path) -> None:
    """Anonymous and shared memory are counted by share, file pages are not."""
    rollup = "Rss: 900 kB\nPss: 800 kB\nPss_Anon:   500 kB\nPss_File:   200 kB\nPss_Shmem:  100 kB\n"
    (add(proc, 40, 1) / "smaps_rollup").write_text(rollup)
    assert proportional_bytes(40, str(proc)) == 600 * 1024
    assert proportional_bytes(99, str(proc)) == 0
