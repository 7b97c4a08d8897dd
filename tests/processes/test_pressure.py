"""Limits of the machine, of cgroups and of single processes."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from support.naive_agent import naive_agent
from support.proc_tree import ProcTree

from executor_api.processes.cgroups import cgroup_name, list_cgroups, own_cgroups, pids_root, read_pids
from executor_api.processes.descriptors import descriptor_survey
from executor_api.processes.pressure import Pressure, Usage, read_pressure
from executor_api.processes.survey import Survey


def test_the_machine_tells_tasks_and_descriptors(tmp_path: Path) -> None:
    """Threads count against both limits, for each takes a pid."""
    proc = ProcTree(tmp_path)
    proc.set_machine(threads=31000, pid_max=32768, opened=700)
    assert read_pressure(str(proc)) == Pressure(Usage(31000, 60000), Usage(31000, 32768), Usage(700, 10000))


def test_what_the_machine_does_not_tell_is_not_known(tmp_path: Path) -> None:
    """A file that is missing or makes no sense takes only its own figure away."""
    proc = ProcTree(tmp_path)
    proc.write("sys/kernel/pid_max", "many\n")
    (tmp_path / "sys/fs/file-nr").unlink()
    assert read_pressure(str(proc)) == Pressure(Usage(100, 60000), None, None)
    proc.write("loadavg", "0.1\n")
    assert read_pressure(str(proc)) == Pressure(None, None, None)


def test_the_real_machine_tells_as_well() -> None:
    """The figures of the machine that this runs on are there and within their limits."""
    for usage in read_pressure():
        assert usage is not None
        assert 0 < usage.used < usage.limit


@pytest.fixture(params=["", "pids"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Cgroups, version 2 and 1: a service with a limit, and in it a container with another."""
    found = tmp_path / "cgroup" / request.param
    (found / "agent.service" / "inner").mkdir(parents=True)
    if not request.param:
        (found / "cgroup.controllers").write_text("pids\n")
    for folder, most, current in (("agent.service", "400", 300), ("agent.service/inner", "max", 200)):
        (found / folder / "pids.max").write_text(f"{most}\n")
        (found / folder / "pids.current").write_text(f"{current}\n")
    return found


def test_cgroups_with_a_limit_are_found(root: Path, tmp_path: Path) -> None:
    """Both versions tell tasks against the limit; without a limit there is nothing to tell."""
    assert pids_root(str(tmp_path / "cgroup")) == str(root).rstrip("/")
    folders = list_cgroups(str(root))
    assert [os.path.relpath(folder, root) for folder in folders] == [".", "agent.service", "agent.service/inner"]
    assert [read_pids(folder) for folder in folders] == [None, Usage(300, 400), None]
    assert len(list_cgroups(str(root), most=2)) == 2
    assert list_cgroups(str(root / "gone")) == [str(root / "gone")]


def test_a_process_has_the_limits_of_the_cgroups_above_it(root: Path, tmp_path: Path) -> None:
    """Its own cgroup and all above are found, as far as they can be seen."""
    proc = tmp_path / "proc"
    (proc / "5").mkdir(parents=True)
    line = (proc / "5" / "cgroup").write_text
    service = [str(root / "agent.service"), str(root)]
    for text, expected in (
        ("0::/agent.service/inner\n", [str(root / "agent.service/inner"), *service]),
        ("8:pids:/agent.service\n4:memory:/x\n0::/\n", service),
        ("0::/agent.service/of/the/host\n", service),
        ("0::/\n", [str(root)]),
    ):
        line(text)
        assert [os.path.normpath(folder) for folder in own_cgroups(str(root), 5, str(proc))] == expected
    assert own_cgroups(str(root), 6, str(proc)) == []


def test_the_name_of_a_cgroup_holds_no_ids() -> None:
    """Pods and containers come and go; their ids would make a new time series each time."""
    pod = "0d5f3c44-9d1b-4f1c-8a51-d1a2b3c4d5e6"
    container = "deadbeef" * 8
    for path, name in (
        (".", "/"),
        ("system.slice/agent.service", "/system.slice/agent.service"),
        (f"kubepods/burstable/pod{pod}/{container}", "/kubepods/burstable/pod*/*"),
        (
            f"kubepods.slice/kubepods-pod{pod.replace('-', '_')}.slice/cri-containerd-{container}.scope",
            "/kubepods.slice/kubepods-pod*.slice/cri-containerd-*.scope",
        ),
        (f"system.slice/run-r{'4f' * 16}.scope", "/system.slice/run-*.scope"),
        ("system.slice/run-p812-i813.service", "/system.slice/run-*.service"),
        ("run-u71.service/payload", "/run-*.service/payload"),
        ("system.slice/run-backups.service", "/system.slice/run-backups.service"),
        ("user.slice/user-1000.slice/session-c12.scope", "/user.slice/user-1000.slice/session-*.scope"),
        ("user.slice/user@1000.service/app.slice/a.service", "/user.slice/user@*.service/app.slice/a.service"),
        (
            "system.slice/system-sshd.slice/sshd@17-10.0.0.1:22-10.0.0.9:51234.service",
            "/system.slice/system-sshd.slice/sshd@*.service",
        ),
    ):
        assert cgroup_name("/sys/fs/cgroup", f"/sys/fs/cgroup/{path}") == name


def test_the_processes_nearest_to_their_own_limit_come_first(tmp_path: Path) -> None:
    """Not who has most descriptors, but who has most of those that it may have."""
    proc = ProcTree(tmp_path)
    for pid, number, limit in ((5, 300, 65535), (6, 200, 256), (7, 90, 100), (8, 150, "unlimited")):
        proc.add(pid)
        proc.open_descriptors(pid, number, limit)
    proc.add(9)
    found = descriptor_survey(str(proc)).look([1, 5, 6, 7, 8, 9])
    assert list(found.items()) == [(6, Usage(200, 256)), (5, Usage(300, 65535))]


def test_descriptors_of_a_real_process_are_counted(tmp_path: Path) -> None:
    """The figure is the number of links in the process's folder, against its soft limit."""
    with naive_agent(tmp_path, "hog", descriptors=180) as agent:
        expected = len(list(Path(f"/proc/{agent}/fd").iterdir()))
        limit = resource.prlimit(agent, resource.RLIMIT_NOFILE)[0]
        assert descriptor_survey().look([agent]) == {agent: Usage(expected, limit)}


def test_a_survey_reads_the_worst_each_time_and_the_others_in_turn() -> None:
    """No look reads more than its part and the worst, and after some looks everything was read."""
    figures = {key: Usage(key, 100) for key in range(20)}
    read: list[int] = []

    def reading(key: int) -> Usage | None:
        read.append(key)
        return figures.get(key)

    survey = Survey(reading, part=6, worst=2)
    assert list(survey.look(range(20))) == [5, 4]
    assert sorted(read) == list(range(6))
    for _ in range(3):
        read.clear()
        found = survey.look(range(20))
        assert len(read) <= 8
    assert list(found) == [19, 18]
    figures[19] = Usage(1, 100)
    assert list(survey.look(range(20))) == [18, 17]
    del figures[18]
    assert list(survey.look(range(17))) == [16, 15]
