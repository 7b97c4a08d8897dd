"""Looks at processes, and what Prometheus gets to see of them."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from prometheus_client import CollectorRegistry
from support.naive_agent import naive_agent
from support.proc_tree import ProcTree

from executor_api.processes.exporter import ProcessMetrics
from executor_api.processes.monitor import Look, Monitor
from executor_api.processes.pressure import Usage
from executor_api.processes.scope import Machine, Tree


@pytest.fixture
def proc(tmp_path: Path) -> ProcTree:
    folder = tmp_path / "proc"
    folder.mkdir()
    return ProcTree(folder)


@pytest.fixture
def monitor(proc: ProcTree, tmp_path: Path) -> Monitor:
    return Monitor(Machine(str(proc), str(tmp_path / "no-cgroups")))


def scrape(monitor: Monitor) -> dict[str, float]:
    """Samples by name and labels, as in the text format."""
    registry = CollectorRegistry()
    registry.register(ProcessMetrics(lambda: monitor.watched._replace(last=monitor.look())))
    found = {}
    for family in registry.collect():
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


def test_zombies_are_told_by_who_should_wait_for_them(proc: ProcTree, monitor: Monitor) -> None:
    """Ten commands at most, those with the most zombies; all others are one, and the sum is that of all."""
    for parent in range(12):
        proc.add(100 + parent, name=f"agent{parent}")
        for child in range(parent + 1):
            proc.add(1000 + 100 * parent + child, state="Z", parent=100 + parent)
    proc.add(9999, state="Z", parent=9998)
    look = monitor.look()
    assert look.zombies == 12 * 13 // 2 + 1
    assert look.zombies_by_parent == {f"agent{n}": n + 1 for n in range(11, 1, -1)} | {"other": 1 + 2 + 1}


def test_parents_of_one_command_are_one(proc: ProcTree, monitor: Monitor) -> None:
    """Workers that run the same command share a figure; a parent that is not seen is unknown."""
    for pid in (5, 6):
        proc.add(pid, name="worker")
        proc.add(pid + 10, state="Z", parent=pid)
    proc.add(20, state="Z", parent=0)
    assert monitor.look().zombies_by_parent == {"worker": 2, "unknown": 1}


def test_d_state_is_told_by_function(proc: ProcTree, monitor: Monitor) -> None:
    """Where the kernel does not tell the function, as to one who may not look into a process, it is unknown."""
    proc.stick(5, "nfs_wait")
    proc.stick(6, "nfs_wait")
    proc.stick(7, "0")
    proc.add(8, state="D")
    look = monitor.look()
    assert (look.stuck, look.stuck_by_function) == (4, {"nfs_wait": 2, "unknown": 2})


def test_files_that_block_hold_nothing_up(proc: ProcTree, monitor: Monitor) -> None:
    """A look reads nothing that waits: a process whose files block is counted as any other."""
    place = proc.stick(5)
    for name in ("cmdline", "environ", "maps", "status"):
        os.mkfifo(place / name)
    for name in ("wchan", "schedstat"):
        (place / name).unlink()
        os.mkfifo(place / name)
    writer = os.open(place / "wchan", os.O_RDWR)
    try:
        look = monitor.look()
    finally:
        os.close(writer)
    assert (look.processes, look.stuck, look.stuck_by_function) == (2, 1, {"unknown": 1})


def test_the_worst_holder_of_each_command_is_told(proc: ProcTree, monitor: Monitor) -> None:
    """Of a pool of workers it is the one that is nearest to its limit."""
    for pid, name, number in ((5, "worker", 200), (6, "worker", 300), (7, "proxy", 150)):
        proc.add(pid, name=name)
        proc.open_descriptors(pid, number, 400)
    assert monitor.look().descriptors == {"worker": Usage(300, 400), "proxy": Usage(150, 400)}


def test_every_figure_is_exported(proc: ProcTree, tmp_path: Path) -> None:
    """Each part of a look has its sample, in base units."""
    cgroup = tmp_path / "cgroup/pids/agent.service"
    cgroup.mkdir(parents=True)
    (cgroup / "pids.max").write_text("400\n")
    (cgroup / "pids.current").write_text("30\n")
    proc.add(5, name='say "hi"', session=3)
    proc.open_descriptors(5, 120, 240)
    proc.add(6, state="Z", parent=5)
    proc.stick(7, "nfs_wait")
    found = scrape(Monitor(Machine(str(proc), str(tmp_path / "cgroup"))))
    assert found.pop("agent_monitor_last_look_timestamp_seconds") == pytest.approx(time.time(), abs=60)
    assert 0 < found.pop("agent_monitor_last_look_cpu_seconds") < 10
    assert found == {
        "agent_monitor_looks_total": 0,
        "agent_monitor_failed_looks_total": 0,
        "agent_processes": 4,
        "agent_threads": 100,
        "agent_orphan_processes": 1,
        "agent_zombie_processes": 1,
        'agent_zombie_processes_by_parent{parent=say "hi"}': 1,
        "agent_d_state_processes": 1,
        "agent_d_state_processes_by_function{function=nfs_wait}": 1,
        "agent_d_state_longest_seconds": 0,
        "agent_pids_limit": 32768,
        "agent_threads_limit": 60000,
        "agent_open_descriptors": 500,
        "agent_open_descriptors_limit": 10000,
        "agent_cgroup_pids{cgroup=/agent.service}": 30,
        "agent_cgroup_pids_limit{cgroup=/agent.service}": 400,
        'agent_process_open_descriptors{command=say "hi"}': 120,
        'agent_process_open_descriptors_limit{command=say "hi"}': 240,
    }


def test_names_that_never_end_make_no_series_without_end(proc: ProcTree, monitor: Monitor) -> None:
    """Each look finds ten new names: they make a hundred series and one, and no zombie is left out."""
    letters = [chr(ord("a") + number) for number in range(26)]
    series: dict[str, set[str]] = {"agent_zombie_processes_by_parent": set(), "agent_process_open_descriptors": set()}
    for first in letters[:12]:
        for pid, second in enumerate(letters[:10], 100):
            proc.add(pid, name=f"tmp{first}{second}")
            proc.open_descriptors(pid, 100)
            proc.add(pid + 100, state="Z", parent=pid)
        found = scrape(monitor)
        for family, seen in series.items():
            told = {name: value for name, value in found.items() if name.startswith(f"{family}{{")}
            seen |= set(told)
            assert family == "agent_process_open_descriptors" or sum(told.values()) == 10
    assert [len(seen) for seen in series.values()] == [101, 101]


def test_workers_named_by_their_pid_are_one(proc: ProcTree, monitor: Monitor) -> None:
    """They share a figure, as workers of one name do: the sum of their zombies, and the worst of their descriptors."""
    for pid in (4001, 4002):
        proc.add(pid, name=f"worker-{pid}")
        proc.open_descriptors(pid, pid - 3900, 400)
        proc.add(pid + 1000, state="Z", parent=pid)
    look = monitor.look()
    assert (look.zombies_by_parent, look.descriptors) == ({"worker-*": 2}, {"worker-*": Usage(102, 400)})


def test_growth_is_exported_with_its_end(proc: ProcTree, tmp_path: Path) -> None:
    """Pids that grow by one a second run out at a time that is told; descriptors that do not grow never do."""
    clock = itertools.count(0, 10)
    monitor = Monitor(Machine(str(proc), str(tmp_path / "no-cgroups")), clock=lambda: next(clock))
    found: dict[str, float] = {}
    for step in range(8):
        proc.set_machine(threads=1000 + 10 * step, pid_max=2000)
        found = scrape(monitor)
    assert found["agent_growth_per_second{resource=pids}"] == pytest.approx(1)
    assert found["agent_exhaustion_timestamp_seconds{resource=pids}"] == pytest.approx(time.time() + 930, abs=60)
    assert found["agent_growth_per_second{resource=descriptors}"] == 0
    assert found["agent_exhaustion_timestamp_seconds{resource=descriptors}"] == float("inf")


def test_a_pid_used_again_does_not_go_on_growing(proc: ProcTree, tmp_path: Path) -> None:
    """A process with the number of one that had few descriptors, and many itself, has not grown from those."""
    clock = itertools.count(0, 10)
    monitor = Monitor(Machine(str(proc), str(tmp_path / "no-cgroups")), clock=lambda: next(clock))
    found: dict[str, float] = {}
    for step in range(14):
        proc.add(7, started=step // 7)
        proc.open_descriptors(7, 200 + 20 * step)
        found = scrape(monitor)
    assert found["agent_growth_per_second{resource=descriptors}"] == pytest.approx(2)
    proc.add(7, started=2)
    assert scrape(monitor)["agent_growth_per_second{resource=descriptors}"] == 0


def test_d_state_is_timed_from_look_to_look(proc: ProcTree, tmp_path: Path) -> None:
    """A process that did not run in between is stuck for as long as it is watched, one that did is not."""
    clock = itertools.count(0, 10)
    monitor = Monitor(Machine(str(proc), str(tmp_path / "no-cgroups")), clock=lambda: next(clock))
    proc.stick(5)
    proc.stick(6, ran=1)
    assert [monitor.look().longest_stuck for _ in range(3)] == [0, 10, 20]
    proc.remove(5)
    proc.stick(6, ran=2)
    assert monitor.look().longest_stuck == 0


def test_a_tree_tells_of_its_own_alone(proc: ProcTree, tmp_path: Path) -> None:
    """Zombies, threads and descriptors of others are not those of the service, nor are the machine's limits."""
    proc.add(5, name="service", threads=4)
    proc.add(6, state="Z", parent=5)
    proc.add(7, state="Z")
    proc.add(8)
    proc.open_descriptors(8, 200)
    found = scrape(Monitor(Tree(5, str(proc), str(tmp_path / "no-cgroups"))))
    assert (found["agent_processes"], found["agent_threads"], found["agent_zombie_processes"]) == (2, 5, 1)
    assert not {"agent_pids_limit", "agent_orphan_processes", "agent_process_open_descriptors{command=sleep}"} & set(
        found
    )


def test_figures_of_a_real_agent_are_those_counted_otherwise(tmp_path: Path) -> None:
    """Its zombies and its processes in D state, by name and by function, equal what psutil and the kernel say."""
    monitor = Monitor(Tree(os.getpid()))
    name = "naive-" + "".join(chr(ord("a") + int(digit)) for digit in str(os.getpid()))  # there may be others here
    with naive_agent(tmp_path, name, zombies=40, stuck=5, descriptors=150) as agent:
        monitor.look()
        look = monitor.look()
        machine = Monitor(Machine()).look()
        below = psutil.Process(os.getpid()).children(recursive=True)
        statuses = [child.status() for child in below]
        stuck = next(child for child in below if child.status() == psutil.STATUS_DISK_SLEEP)
        function = Path(f"/proc/{stuck.pid}/wchan").read_text()
        opened = len(os.listdir(f"/proc/{agent}/fd"))  # noqa: PTH208
    assert (look.zombies, look.stuck) == (statuses.count(psutil.STATUS_ZOMBIE), 5)
    assert look.zombies_by_parent[name] == machine.zombies_by_parent[name] == 40
    assert look.processes == len(below) + 1
    assert look.stuck_by_function == {"unknown" if function == "0" else function: 5}
    assert look.longest_stuck > 0
    assert look.descriptors[name].used == opened


def test_it_looks_again_at_intervals_and_after_a_failure(proc: ProcTree, tmp_path: Path) -> None:
    """The next look is taken without being asked for; one that fails is counted and keeps what was known."""
    monitor = Monitor(Machine(str(proc), str(tmp_path / "no-cgroups")), interval=0.01)
    monitor.start()
    try:
        wait_until(lambda: monitor.watched.looks > 0)
        proc.add(5, state="Z")
        wait_until(lambda: last(monitor).zombies == 1)
        proc.folder.rename(tmp_path / "away")
        wait_until(lambda: monitor.watched.failures > 0)
        assert last(monitor).zombies == 1
        (tmp_path / "away").rename(proc.folder)
        proc.remove(5)
        wait_until(lambda: last(monitor).zombies == 0)
    finally:
        monitor.stop()


def last(monitor: Monitor) -> Look:
    assert monitor.watched.last is not None
    return monitor.watched.last


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
