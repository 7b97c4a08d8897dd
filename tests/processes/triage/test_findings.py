"""What is said of a situation, in which order, and what to do about it."""

from __future__ import annotations

from typing import Any

import pytest

from executor_api.processes.triage.facts import (
    Bereaved,
    Family,
    GpuHolder,
    Heed,
    Hog,
    Identity,
    Limit,
    LostMemory,
    Situation,
    Stuck,
    Unanswered,
)
from executor_api.processes.triage.finding import Finding, Severity
from executor_api.processes.triage.findings import find, main_culprit
from executor_api.processes.triage.wording import restart_command

AGENT = Identity(812, "python", command="python agent.py", uid=1000, parent=500)


def situation(**fields: Any) -> Situation:
    return Situation(**{"processes": 100, "zombies": 0, "orphans": 0} | fields)


def only(**fields: Any) -> Finding:
    (finding,) = find(situation(**fields))
    return finding


def family(number: int, heed: Heed = Heed.DEFAULT, parent: Identity = AGENT, **fields: Any) -> Bereaved:
    return Bereaved(parent, number, {"sh": number}, 7300.0, heed, **fields)


def living_in(home: str, pid: int = 812) -> Identity:
    return Identity(pid, "python", command="python agent.py", home=home)


def test_a_well_machine_has_no_findings() -> None:
    """Limits that are far away, a few processes that wait for a disk: nothing is said."""
    assert find(situation(limits=[Limit("pids", 79, 100, "more")], busy=4)) == []


@pytest.mark.parametrize(
    ("number", "severity"),
    [(1, Severity.NOTICE), (50, Severity.WARNING), (99, Severity.WARNING), (100, Severity.CRITICAL)],
)
def test_zombies_weigh_as_in_the_alerts(number: int, severity: Severity) -> None:
    """50 are a warning, 100 critical; what, who and what to do are one line each."""
    finding = only(bereaved=[family(number)])
    assert finding.severity == severity
    assert finding.what.endswith(f"(sh x {number}); the oldest died 2 h ago")
    assert finding.who == (
        "python agent.py (pid 812, uid 1000) does not wait for its children; SIGCHLD does nothing to it"
    )
    assert finding.do.startswith("executor-api triage --restart-parent 812  #")


@pytest.mark.parametrize(
    ("bereaved", "command"),
    [
        (
            family(3, Heed.HANDLES),
            "executor-api triage --nudge  # if they stay: executor-api triage --restart-parent 812",
        ),
        (family(3, Heed.BLOCKS), "executor-api triage --nudge  #"),
        (family(3, Heed.IGNORES), "executor-api triage --restart-parent 812  # a nudge does not help"),
        (family(3, parent=Identity(812, "python", state="T")), "kill -CONT 812  #"),
        (family(3, parent=Identity(812, "python", state="t")), "grep TracerPid /proc/812/status  #"),
        (family(3, parent=Identity(812, "python", state="D")), "cat /proc/812/stack  # it is in D state itself"),
        (family(2, half_dead=[31, 32]), "cat /proc/31/task/*/wchan  #"),
        (family(3, parent=Identity(0, "nobody")), "look on the host of this container"),
        (family(3, parent=Identity(1, "python")), "if this is a container, start it anew with an init"),
        (family(3, Heed.HANDLES, parent=Identity(1, "init")), "executor-api triage --nudge  # if they stay: give the"),
        (family(3, parent=living_in("/system.slice/agent.service")), "systemctl restart agent.service  #"),
    ],
)
def test_what_to_do_about_zombies_depends_on_their_parent(bereaved: Bereaved, command: str) -> None:
    """How it takes SIGCHLD, what holds it up and who looks after it decide."""
    assert only(bereaved=[bereaved]).do.startswith(command)


@pytest.mark.parametrize(
    ("home", "command"),
    [
        ("/system.slice/agent.service", "systemctl restart agent.service"),
        ("/system.slice/a@1.service/payload", "systemctl restart a@1.service"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/a.service", "systemctl --user restart a.service"),
        ("/user.slice/user-1000.slice/session-3.scope", "executor-api triage --restart-parent 812"),
        (f"/system.slice/docker-{'3f' * 32}.scope", f"docker restart {'3f' * 6}"),
        (f"/kubepods.slice/pod1.slice/cri-containerd-{'3f' * 32}.scope", f"crictl stop {'3f' * 6}"),
        (f"/kubepods/burstable/pod1/{'3f' * 32}", f"crictl stop {'3f' * 6}"),
    ],
)
def test_whoever_looks_after_a_process_restarts_it(home: str, command: str) -> None:
    """A service of systemd or a container is restarted by its own tool, anything else by ours."""
    hog = Hog(living_in(home), 990, 1000)
    assert only(hogs=[hog]).do.partition("  #")[0] == command


def test_the_worst_comes_first_and_its_maker_is_named() -> None:
    """As in the incident: what is full, then zombies, then the rest; the agent behind most of it is the culprit."""
    found = find(
        situation(
            bereaved=[family(400), family(2, parent=Identity(9, "cron"))],
            stuck=[Stuck(Identity(i, "sh"), AGENT, "nfs_wait_bit_killable", seconds=9.0) for i in range(1000, 1020)],
            stuck_in_all=200,
            hogs=[Hog(AGENT, 65_535, 65_535, {"sockets": 65_000}, {"10.0.0.5:443": 60_000, "10.0.0.6:443": 7})],
            limits=[Limit("process numbers (pid_max)", 31_500, 32_768, "sysctl -w kernel.pid_max=65536")],
            family=Family(AGENT, 30_000),
            gpu=[GpuHolder(Identity(7, "python", command="python train.py"), ["/dev/nvidia0"])],
        )
    )
    assert [finding.kind for finding in found] == ["limit", "zombies", "stuck", "descriptors", "zombies", "gpu"]
    assert [finding.severity.name for finding in found] == ["CRITICAL"] * 4 + ["NOTICE"] * 2
    assert main_culprit(found) == AGENT
    assert "python agent.py (pid 812, uid 1000) has 30,000 children" in found[0].who
    assert found[0].do.endswith("room until then: sysctl -w kernel.pid_max=65536")
    assert found[2].what == (
        "20 processes in D state (and 180 more, not looked at) for less than a minute in nfs_wait_bit_killable: "
        "waits for an NFS server that does not answer"
    )
    assert found[3].what == (
        "65,535 of 65,535 descriptors open: 65,000 sockets; "
        "60,007 sockets in CLOSE_WAIT, 60,000 of them to 10.0.0.5:443"
    )
    assert found[3].do.endswith("prlimit --pid 812 --nofile=131070:131070")


def test_one_thing_alone_has_no_main_culprit() -> None:
    """It is named where it stands already."""
    assert main_culprit(find(situation(bereaved=[family(400)]))) is None


@pytest.mark.parametrize(
    ("function", "fields", "command"),
    [
        ("nfs_wait_bit_killable", {"mount_point": "/mnt/my data"}, "umount -f -l '/mnt/my data'  #"),
        ("nfs_wait_bit_killable", {}, "grep -E"),
        ("kernel_clone", {"children": [77]}, "executor-api triage --kill 77  #"),
        ("kernel_clone", {}, "executor-api triage --kill 600"),
        ("folio_wait_bit_common", {}, "dmesg | grep"),
        ("nv_wait", {}, "dmesg | grep -i -E 'xid"),
        ("anything_else", {}, "cat /proc/600/stack  #"),
        (None, {}, "cat /proc/600/stack  #"),
    ],
)
def test_what_to_do_about_a_wait_depends_on_it(function: str | None, fields: dict[str, Any], command: str) -> None:
    """A mount is taken off, a child is killed, a disk's errors are read."""
    stuck = Stuck(Identity(600, "cp"), None, function, "/mnt/my data/x", "nfs4 from s:/e", **fields)
    assert only(stuck=[stuck], stuck_in_all=1).do.startswith(command)


def test_a_wait_of_minutes_is_critical() -> None:
    """Five minutes, as in the alert."""
    for seconds, severity in ((299.0, Severity.WARNING), (300.0, Severity.CRITICAL)):
        stuck = Stuck(Identity(600, "cp"), None, "io_schedule", seconds=seconds)
        assert only(stuck=[stuck], stuck_in_all=1).severity == severity


def test_what_ends_those_that_fill_the_machine() -> None:
    """Orphans are told by name and ended by it, children by their parent, and both by the service they are of."""
    limits = [Limit("pids", 90, 100, "more")]
    wild = only(limits=limits, family=Family(Identity(70, "sh; rm .*", parent=1), 60, orphans=True))
    assert wild.severity == Severity.WARNING
    assert wild.do.startswith("pgrep -a -P 1 -x -- 'sh; rm \\.\\*'  # look")
    children = only(limits=limits, family=Family(AGENT, 60))
    assert children.do.startswith(
        "pkill -KILL -P 812  # its children; if it makes new ones: executor-api triage --restart"
    )
    owned = only(limits=limits, family=Family(living_in("/system.slice/a.service"), 60))
    assert owned.do.startswith("systemctl restart a.service  # ends them with it")
    owned = only(limits=limits, family=Family(living_in("/system.slice/a.service"), 60, orphans=True))
    assert owned.do.startswith("systemctl restart a.service  #")


def test_orphans_weigh_by_their_number_and_are_told_once() -> None:
    """A hundred of one name are a notice, a thousand a warning; where they fill a limit, that says it all."""
    sleeper = Identity(70, "sleep", command="sleep 900", parent=1)
    for number, severity in ((100, Severity.NOTICE), (999, Severity.NOTICE), (1000, Severity.WARNING)):
        finding = only(adopted=Family(sleeper, number, orphans=True))
        assert finding.severity == severity
        assert finding.what == f"{number:,} orphans of one name (sleep): whoever started them has ended"
        assert finding.who == "init adopted sleep 900 (pid 70) and its like"
        assert finding.do.startswith("pgrep -a -P 1 -x -- sleep  # look")
        assert "pkill" not in finding.do
        assert finding.culprit is None
    assert find(situation(adopted=Family(sleeper, 99, orphans=True))) == []
    many = Family(sleeper, 3000, orphans=True)
    assert only(adopted=many, family=many, limits=[Limit("pids", 90, 100, "more")]).kind == "limit"


def test_orphans_in_d_state_are_told_as_such() -> None:
    """Whoever started them has ended: init is not to blame, and neither is the first of them alone."""
    for pid, told in ((1, "orphans, such as cp (pid 600)"), (2, "such as cp (pid 600)")):
        stuck = [Stuck(Identity(n, "cp", parent=pid), Identity(pid, "x"), "io_schedule") for n in range(600, 603)]
        assert only(stuck=stuck, stuck_in_all=3).who == told


def test_orphans_lead_to_the_session_they_were_started_in() -> None:
    """Init adopted them; whoever leads their session is named as the one behind it all."""
    orphans = Family(Identity(70, "sleep", parent=1), 3000, orphans=True, leader=AGENT)
    stuck = [Stuck(Identity(n, "cp", parent=1), Identity(1, "init"), "io_schedule", leader=AGENT) for n in (600, 601)]
    found = find(situation(adopted=orphans, stuck=stuck, stuck_in_all=2))
    assert "pgrep -a -P 1 -s 812 -x -- sleep  # look; if all may end: pkill -KILL -P 1 -s 812 -x -- sleep" in {
        finding.do for finding in found
    }
    for finding in found:
        assert finding.who.endswith("; they were started in the session of python agent.py (pid 812, uid 1000)")
    assert main_culprit(found) == AGENT


def test_a_cgroup_is_filled_by_its_own() -> None:
    """Whoever has most processes of the machine may not be in it; nobody may be seen who is."""
    crowd, alone = Family(Identity(5, "other"), 9000), Family(AGENT, 60)
    own = Limit("tasks of cgroup /a", 90, 100, "more", place="/sys/fs/cgroup/a", family=alone)
    assert only(limits=[own], family=crowd).culprit == AGENT
    foreign = only(limits=[Limit("tasks of cgroup /a", 90, 100, "more", place="/sys/fs/cgroup/a")], family=crowd)
    assert (foreign.who, foreign.culprit) == ("none that can be seen from here", None)
    assert foreign.do.startswith("cat /sys/fs/cgroup/a/cgroup.procs  # on the host")


def test_gpu_holders_weigh_by_whether_they_can_be_ended() -> None:
    """In D state it is critical, without a parent a warning, else worth a notice."""
    ways = {"D": Severity.CRITICAL, "S": Severity.WARNING}
    for state, severity in ways.items():
        assert only(gpu=[GpuHolder(Identity(7, "x", state=state, parent=1), ["/dev/nvidia0"])]).severity == severity
    assert (
        only(gpu=[GpuHolder(AGENT, ["/dev/nvidia0", "/dev/nvidiactl"])]).what == "/dev/nvidia0, /dev/nvidiactl in use"
    )


@pytest.mark.parametrize(
    ("name", "command", "shown"),
    [
        ("python", "/usr/bin/python agent.py", "/usr/bin/python agent.py (pid 7)"),
        ("naive-agent", "python agent.py", "python agent.py (pid 7, naive-agent)"),
        (
            "python3",
            "/opt/agent/venv/bin/python3 /opt/agent/lib/agents/worker.py --queue /var/spool/agent/calls",
            "python3 worker.py --queue /var/spool/agent/calls (pid 7)",
        ),
        ("x", "x /srv/" + "y" * 80, "x " + "y" * 55 + "... (pid 7)"),
    ],
)
def test_a_process_is_recognised(name: str, command: str, shown: str) -> None:
    """The name that metrics have for it is told if the command has another; a wide one keeps what tells it apart."""
    assert only(hogs=[Hog(Identity(7, name, command=command), 990, 1000)]).who == shown


def test_memory_of_the_dead_is_critical() -> None:
    """Held for a pid that is gone, only a reset helps; for a zombie its parent may; and a mute driver is told first."""
    (gone,) = find(situation(lost_memory=[LostMemory("GPU-1", "L4", 400 << 20, [14])]))
    assert (gone.severity, gone.what) == (Severity.CRITICAL, "400 MiB of GPU L4 (GPU-1) held for pid 14, which is gone")
    assert gone.do.startswith("nvidia-smi --gpu-reset --id=GPU-1  #")
    assert gone.culprit is None
    part = only(lost_memory=[LostMemory("MIG-1", "x", 0, [*range(14, 21)])])
    assert part.what.endswith("pid 18, which is gone and 2 more")
    assert part.do.startswith("reboot  #")
    zombie = only(lost_memory=[LostMemory("GPU-1", "L4", 1 << 20, [], [Identity(13, "python", "Z", 812)], [AGENT])])
    assert zombie.what == "1 MiB of GPU L4 (GPU-1) held for zombie 13"
    assert (zombie.culprit, zombie.do) == (AGENT, f"{restart_command(AGENT)}  # if it stays: {gone.do}")
    found = find(situation(gpu_unanswered=Unanswered("ask"), gpu=[GpuHolder(AGENT, [], 3 << 20)]))
    assert [finding.what for finding in found] == ["the GPU driver does not answer", "3 MiB of a GPU in use"]


def test_a_gpu_that_is_not_counted_may_be_lost() -> None:
    """How many, and where the kernel says why; a warning, for it may be kept from us on purpose."""
    finding = only(uncounted_gpus=2)
    assert (finding.severity, finding.culprit) == (Severity.WARNING, None)
    assert finding.what.startswith("2 of NVIDIA's GPUs can't be used")
    assert finding.do.startswith("dmesg | grep -i -E 'xid|nvrm'")


@pytest.mark.parametrize(
    ("found", "severity", "what", "do"),
    [
        (Unanswered("ask"), Severity.CRITICAL, "the GPU driver does not answer", "dmesg | grep -i -E 'xid"),
        (Unanswered("ask", signal=11), Severity.WARNING, "who asked the driver crashed with SIGSEGV", "nvidia-smi  #"),
        (Unanswered("ask", signal=9), Severity.WARNING, "was ended by SIGKILL", "dmesg | grep -i -E 'oom"),
        (Unanswered("ask", signal=15), Severity.WARNING, "was ended by SIGTERM", "executor-api triage  #"),
        (Unanswered("ask", signal=35), Severity.WARNING, "was ended by signal 35", "executor-api triage  #"),
        (Unanswered("ask", error="\x1b[2Jno"), Severity.WARNING, "GPU memory could not be read: ?[2Jno", "ask  #"),
    ],
)
def test_only_a_driver_that_is_silent_is_said_to_be(found: Unanswered, severity: Severity, what: str, do: str) -> None:
    """A crash, an end from outside and an error of who asks it are told apart, each with what to type."""
    finding = only(gpu_unanswered=found)
    assert finding.severity == severity
    assert finding.what.endswith(what)
    assert finding.do.startswith(do)


def test_names_cannot_steer_the_terminal() -> None:
    """What a process calls itself is shown without its control characters, and cut where it is long."""
    hostile = Identity(5, "x", command="\x1b[2J\x1b[31mall is well\r\n" + "y" * 500, home="/\x1b[2J.service")
    finding = only(bereaved=[Bereaved(hostile, 1, {"\x1b[2J": 1}, None, Heed.DEFAULT)])
    for text in (finding.what, finding.who, finding.do):
        assert text.isprintable()
        assert len(text) < 250


def test_names_cannot_smuggle_commands() -> None:
    """What is to be typed quotes the names of units and mounts, so that it does nothing else."""
    unit = living_in("/a; reboot #.service")
    assert only(hogs=[Hog(unit, 990, 1000)]).do.startswith("systemctl restart 'a; reboot #.service'  #")
    stuck = Stuck(AGENT, None, "nfs_wait", "/mnt/$(reboot)/x", "nfs", "/mnt/$(reboot)")
    assert only(stuck=[stuck], stuck_in_all=1).do.startswith("umount -f -l '/mnt/$(reboot)'  #")
