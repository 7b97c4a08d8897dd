"""What a look finds: on this machine, and in made-up folders of processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.machine import eventually
from support.naive_agent import naive_agent
from support.nvml import Gpus
from support.proc_tree import ProcTree
from support.sick import CLOSED_BY_PEER, DEAF, HALF_DEAD, ONE_A_SIGNAL, running

from executor_api.processes.triage.examination import examine
from executor_api.processes.triage.facts import Heed, Hog, Unanswered
from executor_api.processes.triage.findings import find

STATUS = "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0000000000010000\n"


def the_hog(pid: int) -> Hog:
    return next(hog for hog in examine().hogs if hog.process.pid == pid)


@pytest.fixture
def tree(tmp_path: Path) -> ProcTree:
    return ProcTree(tmp_path)


def test_real_zombies_are_told_by_parent() -> None:
    """Two parents: each with its number, its command line, the names of its dead and how it takes SIGCHLD."""
    with running(DEAF, 12) as deaf, running(ONE_A_SIGNAL, 7) as slow:
        found = {family.parent.pid: family for family in examine().bereaved}
        assert (found[deaf.pid].zombies, found[deaf.pid].heed) == (12, Heed.DEFAULT)
        assert (found[slow.pid].zombies, found[slow.pid].heed) == (7, Heed.HANDLES)
        assert "os.fork()" in (found[deaf.pid].parent.command or "")
        assert found[deaf.pid].parent.uid == os.getuid()
        assert sum(found[deaf.pid].names.values()) == 12
        age = found[deaf.pid].oldest_seconds
        started = psutil.Process(deaf.pid).create_time()
        assert age is None or 0 <= age <= time.time() - started + 1


def test_a_zombie_with_threads_left_is_not_its_parents_fault() -> None:
    """Of a real process whose first thread has ended and another lives, the threads are what to look at."""
    with running(HALF_DEAD) as process:
        eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        situation = examine()
        (family,) = (found for found in situation.bereaved if found.parent.pid == os.getpid())
        assert (family.zombies, family.half_dead) == (1, [process.pid])
        (finding,) = (found for found in find(situation) if f"/proc/{process.pid}/task" in found.do)
        assert finding.culprit is None


def test_real_processes_in_d_state_are_told_with_their_wait(tmp_path: Path) -> None:
    """Each is found with the kernel's function, its parent, and the child to kill; killing that sets it free."""
    with naive_agent(tmp_path, "naive", stuck=4) as agent:
        children = psutil.Process(agent).children()
        found = [stuck for stuck in examine().stuck if stuck.parent and stuck.parent.pid == agent]
        assert {stuck.process.pid for stuck in found} == {child.pid for child in children}
        if os.geteuid() == 0:
            assert all(stuck.function for stuck in found)
        victim = found[0]
        (grandchild,) = victim.children
        os.kill(grandchild, 9)
        eventually(lambda: psutil.Process(victim.process.pid).status() != psutil.STATUS_DISK_SLEEP)


def test_a_real_hog_of_descriptors_is_told_with_its_peers() -> None:
    """A process with many sockets that its peers have closed is named, with the peer and the number."""
    with running(CLOSED_BY_PEER, 150, "4") as process:
        hog = the_hog(process.pid)
        assert hog.holds["sockets"] == 151
        assert list(hog.close_wait.values()) == [150]
        (finding,) = (found for found in find(examine()) if found.culprit and found.culprit.pid == process.pid)
        assert "150 sockets in CLOSE_WAIT, 150 of them to 127.0.0.1:" in finding.what


def test_files_that_never_answer_cost_their_deadline_only(tree: ProcTree) -> None:
    """Where the command lines of twenty stuck processes hang, all else is told, and so is what could not be read."""
    agent = tree.add(500, "agent", parent=1)
    (agent / "cmdline").write_text("python\0agent.py\0")
    (agent / "status").write_text(STATUS)
    for pid in range(1000, 1020):
        os.mkfifo(tree.stick(pid, "rpc_wait_bit_killable", parent=500) / "cmdline")
    for pid in range(2000, 2060):
        tree.add(pid, "sh", state="Z", parent=500)
    situation = examine(str(tree), cgroups=None)
    assert [len(situation.stuck), situation.stuck_in_all, situation.zombies] == [20, 20, 60]
    (family,) = situation.bereaved
    assert (family.parent.command, family.heed, family.parent.uid) == ("python agent.py", Heed.HANDLES, 1000)
    assert {stuck.function for stuck in situation.stuck} == {"rpc_wait_bit_killable"}
    assert {stuck.process.command for stuck in situation.stuck} == {None}
    assert situation.stuck[0].process.why_not == "it did not answer in time"
    assert situation.stuck[-1].process.why_not == "too many reads hang already"
    assert situation.remarks == [f"8 reads of {tree} did not answer"]


def test_whoever_fills_the_machine_is_named(tree: ProcTree) -> None:
    """Near the limit of process numbers the parent with the most children is found, or the orphans if they are more."""
    tree.set_machine(threads=90, pid_max=100)
    (tree.add(500, "agent") / "cmdline").write_text("agent\0")
    for pid in range(1000, 1030):
        tree.add(pid, "sh", parent=500)
    family = examine(str(tree), cgroups=None).family
    assert family is not None
    assert (family.who.command, family.size, family.orphans) == ("agent", 30, False)
    for pid in range(2000, 2040):
        tree.add(pid, "left", parent=1, session=500)
    family = examine(str(tree), cgroups=None).family
    assert family is not None
    assert (family.who.name, family.size, family.orphans) == ("left", 40, True)


def test_whoever_fills_a_cgroup_is_one_of_its_own(tree: ProcTree, tmp_path: Path) -> None:
    """Processes of the cgroup and of those below it count, however many the machine has elsewhere."""
    group = tmp_path / "groups/pids/agent"
    (group / "below").mkdir(parents=True)
    (group / "pids.max").write_text("100\n")
    (group / "pids.current").write_text("90\n")
    (group / "cgroup.procs").write_text("500\n0\n")
    (group / "below/cgroup.procs").write_text("".join(f"{pid}\n" for pid in range(1000, 1005)))
    for parent, name in ((500, "agent"), (600, "other")):
        (tree.add(parent, name) / "cmdline").write_text(f"{name}\0")
        for pid in range(2 * parent, 2 * parent + parent // 100):
            tree.add(pid, "sh", parent=parent)
    (limit,) = (limit for limit in examine(str(tree), str(tmp_path / "groups")).limits if limit.place)
    assert limit.family is not None
    assert (limit.place, limit.family.who.command, limit.family.size) == (str(group), "agent", 5)


def test_many_orphans_are_told_without_a_limit_near(tree: ProcTree) -> None:
    """The most frequent kind of them is found; those that look after containers are init's on purpose."""
    for pid in range(1000, 1120):
        tree.add(pid, "containerd-shim", parent=1, session=500)
    assert examine(str(tree), cgroups=None).adopted is None
    for pid in range(2000, 2110):
        tree.add(pid, "sleep", parent=1, session=500)
    found = examine(str(tree), cgroups=None)
    assert (found.adopted and (found.adopted.who.name, found.adopted.size), found.family) == (("sleep", 110), None)


def test_who_leads_the_session_of_orphans_is_found(tree: ProcTree) -> None:
    """Of most of those of one name, and of one in D state; a session whose leader has ended leads to nobody."""
    (tree.add(500, "agent", session=500) / "cmdline").write_text("agent\0")
    for pid in range(2000, 2110):
        tree.add(pid, "sleep", parent=1, session=500 if pid < 2080 else 501)
    tree.stick(3000, "nfs_wait", parent=1, session=500)
    tree.stick(3001, "nfs_wait", parent=1, session=501)
    tree.stick(3002, "nfs_wait", parent=1, session=3002)
    found = examine(str(tree), cgroups=None)
    assert found.adopted is not None
    assert found.adopted.leader is not None
    assert (found.adopted.size, found.adopted.leader.command) == (112, "agent")
    leaders = {stuck.process.pid: stuck.leader and stuck.leader.pid for stuck in found.stuck}
    assert leaders == {3000: 500, 3001: None, 3002: None}


def test_the_mount_that_a_process_waits_on(tree: ProcTree) -> None:
    """The descriptor of its system call leads to the file, and that to the mount; else its folder on a remote one."""
    mounts = "27 1 254:0 / / rw - ext4 /dev/vda rw\n40 27 0:50 / /mnt/data rw - nfs4 server:/export rw\n"
    reader, other = tree.stick(7, "nfs_wait_bit_killable"), tree.stick(8, "nfs_wait_bit_killable")
    for place in (reader, other):
        (place / "mountinfo").write_text(mounts)
        (place / "fd").mkdir()
        (place / "cwd").symlink_to("/mnt/data/here")
    number = {"x86_64": 0, "aarch64": 63}[os.uname().machine]
    (reader / "syscall").write_text(f"{number} 0x3 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n")
    (reader / "fd/3").symlink_to("/mnt/data/file")
    found = {stuck.process.pid: stuck for stuck in examine(str(tree), cgroups=None).stuck}
    assert [found[pid].path for pid in (7, 8)] == ["/mnt/data/file", "/mnt/data/here"]
    assert {(stuck.mount_point, stuck.mount) for stuck in found.values()} == {("/mnt/data", "nfs4 from server:/export")}


def test_those_that_run_in_between_are_busy_and_not_stuck(tree: ProcTree) -> None:
    """A process in D state that the scheduler let run between two looks waits for a disk that answers."""
    tree.stick(7)
    moving = tree.stick(8)
    os.unlink(moving / "schedstat")  # noqa: PTH108 - beside the next line
    os.symlink("/proc/self/schedstat", moving / "schedstat")  # noqa: PTH211 - one that changes as we run
    situation = examine(str(tree), cgroups=None)
    assert ([stuck.process.pid for stuck in situation.stuck], situation.busy) == ([7], 1)


def test_gpu_holders_are_found_by_their_descriptors(tree: ProcTree) -> None:
    """Where the driver is loaded, whoever has a device of it open is named with it; else nobody is asked."""
    train = tree.add(70, "python", parent=1)
    (train / "fd").mkdir()
    for number, target in enumerate(("/dev/null", "/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia0")):
        (train / "fd" / str(number)).symlink_to(target)
    assert examine(str(tree), cgroups=None).gpu == []
    (tree.folder / "driver/nvidia").mkdir(parents=True)
    (holder,) = examine(str(tree), cgroups=None).gpu
    assert (holder.process.pid, holder.devices) == (70, ["/dev/nvidia0", "/dev/nvidiactl"])


@pytest.fixture
def gpus(tree: ProcTree, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Gpus:
    """A machine with NVIDIA's driver, and what that says."""
    found = Gpus(tmp_path_factory.mktemp("nvml"))
    for name, value in found.environ.items():
        monkeypatch.setenv(name, value)
    (tree.folder / "driver/nvidia").mkdir(parents=True)
    tree.add(2, "kthreadd", parent=0)
    return found


def test_gpu_memory_is_told_by_who_holds_it(tree: ProcTree, gpus: Gpus) -> None:
    """The living by how much they hold, the most first; of the dead what is lost, with the parent of a zombie."""
    for pid, state in ((70, "S"), (71, "S"), (72, "Z"), (812, "S")):
        tree.add(pid, "python", state=state, parent=812)
    holders = ((70, 100), (71, 200), (72, 300), (73, 400))
    gpus.say("device 0 8000000000", *(f"process 0 {pid} {size}" for pid, size in holders))
    situation = examine(str(tree), cgroups=None)
    assert [(holder.process.pid, holder.used_bytes) for holder in situation.gpu] == [(71, 200), (70, 100)]
    (lost,) = situation.lost_memory
    assert (lost.uuid, lost.size, lost.gone) == ("GPU-0", 700, [73])
    assert [(zombie.pid, parent.pid) for zombie, parent in zip(lost.zombies, lost.parents, strict=True)] == [(72, 812)]
    assert situation.gpu_unanswered is None
    assert situation.remarks == []


def test_gpus_are_asked_by_who_ignores_sigchld_too(tree: ProcTree, gpus: Gpus) -> None:
    """As a program may be that triage is started from: the kernel then collects who asks, and its answer counts."""
    gpus.say("device 0 8000000000", "process 0 73 400")
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        situation = examine(str(tree), cgroups=None)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert [lost.gone for lost in situation.lost_memory] == [[73]]


def test_gpus_that_only_the_kernel_has_are_told(tree: ProcTree, gpus: Gpus) -> None:
    """Of four, one is lost and one is not counted; in a container, which may be shown more than it has, none is."""
    for number in range(4):
        (tree.folder / f"driver/nvidia/gpus/0000:0{number}:00.0").mkdir(parents=True)
    gpus.say("device 0 1000", "device 1 1000", "device 2 1000", "lost 2")
    assert examine(str(tree), cgroups=None).uncounted_gpus == 2
    tree.add(2, "sh")
    assert examine(str(tree), cgroups=None).uncounted_gpus == 0


def test_from_a_container_nobody_is_accused(tree: ProcTree, gpus: Gpus) -> None:
    """Where the machine's processes can't be seen, pids that the driver lists are told as what they are: numbers."""
    tree.add(2, "sh")
    gpus.say("device 0 8000000000", "process 0 73 400")
    situation = examine(str(tree), cgroups=None)
    assert (situation.gpu, situation.lost_memory) == ([], [])
    assert situation.remarks == [
        "GPU holders: the driver lists pid 73, which only the machine itself can tell who they are: look there"
    ]


def test_a_driver_that_does_not_answer_costs_its_deadline_only(tree: ProcTree, gpus: Gpus) -> None:
    """It still waits, who has its devices open is told all the same, and nothing of the question is left."""
    train = tree.add(70, "python", parent=812)
    (train / "fd").mkdir()
    (train / "fd/3").symlink_to("/dev/nvidia0")
    gpus.say("device 0 8000000000", "hang")
    situation = examine(str(tree), cgroups=None)
    assert [holder.process.pid for holder in situation.gpu] == [70]
    assert situation.gpu_unanswered == Unanswered(f"{sys.executable} -P -m executor_api.processes.gpu {tree}")
    eventually(lambda: not any("executor_api.processes.gpu" in child.cmdline() for child in _children()))


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_who_crashes_on_asking_the_driver_tells_by_which_signal(tree: ProcTree, gpus: Gpus, number: int) -> None:
    """That is no driver that does not answer; nothing of the question is left."""
    before = set(psutil.Process().children())
    gpus.say("device 0 8000000000", f"die {int(number)}")
    found = examine(str(tree), cgroups=None).gpu_unanswered
    assert found is not None
    assert (found.signal, found.error) == (number, "")
    assert set(psutil.Process().children()) <= before


@pytest.mark.parametrize(
    ("binding", "error"),
    [
        ("raise RuntimeError('half installed')", "RuntimeError: half installed"),
        ("import os; os._exit(3)", "exit code 3, without an answer"),
    ],
)
def test_an_error_of_who_asks_the_driver_is_told_in_its_words(
    tree: ProcTree,
    gpus: Gpus,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    binding: str,
    error: str,
) -> None:
    """A binding that is broken is named with its error, and who ends without a word with its exit code."""
    folder = tmp_path_factory.mktemp("binding")
    (folder / "pynvml.py").write_text(binding)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))
    gpus.say("device 0 8000000000")
    found = examine(str(tree), cgroups=None).gpu_unanswered
    assert found is not None
    assert (found.signal, found.error) == (None, error)


def _children() -> list[psutil.Process]:
    """Of this process, the zombies left out."""
    return [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]


def test_a_limit_of_a_cgroup_is_told(tree: ProcTree, tmp_path: Path) -> None:
    """The cgroup that is nearest to its limit of tasks is named, with the file to raise it."""
    cgroups = tmp_path / "cgroups"
    (cgroups / "full one").mkdir(parents=True)
    (cgroups / "cgroup.controllers").write_text("pids\n")
    for name, text in (("pids.max", "100\n"), ("pids.current", "96\n")):
        (cgroups / "full one" / name).write_text(text)
    limits = [limit for limit in examine(str(tree), str(cgroups)).limits if "cgroup" in limit.what]
    assert [(limit.what, limit.used, limit.most) for limit in limits] == [("tasks of cgroup /full one", 96, 100)]
    assert limits[0].raise_by == f"echo 200 > '{cgroups}/full one/pids.max'"
