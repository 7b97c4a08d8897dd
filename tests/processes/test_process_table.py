"""One look at all processes."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from support.naive_agent import naive_agent
from support.proc_tree import ProcTree

from executor_api.processes.process_table import Process, read_process, read_table, read_tree


def test_what_is_wrong_is_kept_one_by_one(tmp_path: Path) -> None:
    """Zombies, D state and orphans are told from the rest, whatever a process calls itself."""
    proc = ProcTree(tmp_path)
    proc.add(7, name="sneaky) Z 1 (", parent=5)
    proc.add(8, name="a b", state="Z", parent=7, started=42, threads=3)
    proc.add(9, state="D", parent=8)
    proc.add(10, session=3)
    proc.add(11)
    (tmp_path / "12").mkdir()
    table = read_table(str(proc))
    assert sorted(table.pids) == [1, 7, 8, 9, 10, 11]
    assert table.zombies == [Process(8, 7, "a b", "Z", session=8, threads=3, started=42)]
    assert [process.pid for process in table.stuck] == [9]
    assert table.orphans == 1


def test_one_process_or_none(tmp_path: Path) -> None:
    """A process is read by its pid; of one that has ended nothing is told."""
    proc = ProcTree(tmp_path)
    found = read_process(1, str(proc))
    assert found is not None
    assert (found.name, found.parent, found.state) == ("init", 0, "S")
    assert read_process(2, str(proc)) is None


def test_a_tree_is_one_process_and_all_below_it(tmp_path: Path) -> None:
    """Others are left out, also a child of one that is; without the root there is no tree."""
    proc = ProcTree(tmp_path)
    for pid, parent in ((5, 1), (6, 5), (7, 6), (8, 5), (9, 1), (10, 9)):
        proc.add(pid, parent=parent)
    assert sorted(process.pid for process in read_tree(5, str(proc))) == [5, 6, 7, 8]
    assert read_tree(99, str(proc)) == []


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    """Where there is no proc file system, nothing is taken for an answer."""
    with pytest.raises(FileNotFoundError):
        read_table(str(tmp_path / "none"))


def test_real_ones_are_counted_as_another_program_counts_them(tmp_path: Path) -> None:
    """Zombies and D state that a real agent makes are those that psutil finds."""
    with naive_agent(tmp_path, "naive", zombies=12, stuck=3) as agent:
        expected = {(child.pid, child.status()) for child in psutil.Process(agent).children(recursive=True)}
        found = read_tree(agent)
        assert found[0].pid == agent
        states = {"Z": psutil.STATUS_ZOMBIE, "D": psutil.STATUS_DISK_SLEEP, "S": psutil.STATUS_SLEEPING}
        assert {(process.pid, states[process.state]) for process in found[1:]} == expected
        table = read_table()
        assert sum(zombie.parent == agent for zombie in table.zombies) == 12
        assert sum(process.parent == agent for process in table.stuck) == 3
        assert os.getpid() in table.pids
