"""What is wrong, worst first, each with who made it and what to do. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from executor_api.processes.triage.facts import (
    Bereaved,
    Heed,
    Hog,
    Identity,
    Limit,
    Situation,
    Stuck,
)
from executor_api.processes.triage.finding import Finding, Severity
from executor_api.processes.triage.gpu_findings import gpu_findings
from executor_api.processes.triage.waits import meaning
from executor_api.processes.triage.wording import (
    ago,
    clean,
    describe,
    is_looked_after,
    quoted,
    restart_command,
    several,
)

_FULL, _TIGHT = 0.95, 0.8
_MANY_ZOMBIES, _SOME_ZOMBIES = 100, 50
_LONG_SECONDS, _MANY_STUCK = 300, 20
_MANY_OPEN, _MANY_CLOSE_WAIT, _MANY_BUSY = 1000, 100, 5
_SOME_ORPHANS, _MANY_ORPHANS = 100, 1000


def find(situation: Situation) -> list[Finding]:
    """All that is wrong: the worst first; of the same severity in this order, the largest first."""
    found = [
        *_limits(situation),
        *(_zombies(family) for family in situation.bereaved),
        *_stuck(situation),
        *(_hog(hog) for hog in situation.hogs if _matters(hog)),
        *gpu_findings(situation),
        *_orphans(situation),
    ]
    if situation.busy >= _MANY_BUSY:
        what = f"{several(situation.busy, 'process', 'processes')} in D state that move: they wait for a busy disk"
        found.append(Finding("busy", Severity.NOTICE, what, "no single one", "cat /proc/pressure/io  # how busy it is"))
    return sorted(found, key=lambda finding: -finding.severity)


def main_culprit(findings: Iterable[Finding]) -> Identity | None:
    """The process that made more than one of the things that are wrong; None if there is none."""
    culprits = [item.culprit for item in findings if item.severity > Severity.NOTICE and item.culprit]
    worst = Counter(culprit.pid for culprit in culprits).most_common(1)
    if not worst or worst[0][1] == 1:
        return None
    return next(culprit for culprit in culprits if culprit.pid == worst[0][0])


def _limits(situation: Situation) -> Iterator[Finding]:
    for limit in situation.limits:
        if limit.used < _TIGHT * limit.most:
            continue
        severity = Severity.CRITICAL if limit.used >= _FULL * limit.most else Severity.WARNING
        what = f"{limit.what}: {limit.used:,} of {limit.most:,} in use"
        who, do, culprit = _behind(limit, situation)
        yield Finding("limit", severity, what, who, f"{do}; room until then: {limit.raise_by}", culprit)


def _behind(limit: Limit, situation: Situation) -> tuple[str, str, Identity | None]:
    """Who uses up a limit, and what ends that."""
    family = limit.family if limit.place else situation.family
    if limit.of_processes and family:
        if family.orphans:
            told = several(family.size, "orphan", "orphans")
            who = f"{told} that init adopted, such as {describe(family.who)}{_started_by(family.leader)}"
            return who, _end_orphans(family.who, family.leader), family.leader
        told = several(family.size, "child", "children")
        return f"{describe(family.who)} has {told}", _end_children(family.who), family.who
    if not limit.of_processes and situation.hogs:
        hog = situation.hogs[0]
        return f"{describe(hog.process)} has {hog.open:,}", restart_command(hog.process), hog.process
    if limit.place:
        return "none that can be seen from here", f"cat {quoted(limit.place)}/cgroup.procs  # on the host", None
    return "no single process", "cat /proc/loadavg  # whether it still grows", None


def _orphans(situation: Situation) -> Iterator[Finding]:
    """Those of one name, if nothing that is full has led to them already."""
    family = situation.adopted
    behind_limits = [situation.family, *(limit.family for limit in situation.limits)]
    if family is None or family.size < _SOME_ORPHANS or family in behind_limits:
        return
    severity = Severity.WARNING if family.size >= _MANY_ORPHANS else Severity.NOTICE
    what = f"{several(family.size, 'orphan')} of one name ({clean(family.who.name)}): whoever started them has ended"
    who = f"init adopted {describe(family.who)} and its like{_started_by(family.leader)}"
    yield Finding("orphans", severity, what, who, _end_orphans(family.who, family.leader), family.leader)


def _started_by(leader: Identity | None) -> str:
    return f"; they were started in the session of {describe(leader)}" if leader else ""


def _end_children(parent: Identity) -> str:
    command = restart_command(parent)
    if is_looked_after(parent):
        return f"{command}  # ends them with it"
    return f"pkill -KILL -P {parent.pid}  # its children; if it makes new ones: {command}"


def _end_orphans(example: Identity, leader: Identity | None) -> str:
    """Init's children of a name are not all orphans: services of systemd are its children too."""
    if is_looked_after(example):
        return f"{restart_command(example)}  # they are of it"
    pattern = re.sub(r"([][.*+?(){}^$|\\])", r"\\\1", example.name)
    which = f"-P 1{f' -s {leader.pid}' if leader else ''} -x -- {quoted(pattern)}"
    if leader:
        return f"pgrep -a {which}  # look; if all may end: pkill -KILL {which}"
    return f"pgrep -a {which}  # look: services may be among them; then kill -KILL those PIDs that may end"


def _zombies(family: Bereaved) -> Finding:
    names = ", ".join(f"{clean(name)} x {number:,}" for name, number in family.names.items())
    age = "" if family.oldest_seconds is None else f"; the oldest died {ago(family.oldest_seconds)} ago"
    what = f"{several(family.zombies, 'zombie')} ({names}){age}"
    severity = Severity.NOTICE
    if family.zombies >= _SOME_ZOMBIES:
        severity = Severity.CRITICAL if family.zombies >= _MANY_ZOMBIES else Severity.WARNING
    if len(family.half_dead) == family.zombies:
        who = f"not their parent, {describe(family.parent)}: they have threads left, so nobody can collect them"
        pid = family.half_dead[0]
        do = f"cat /proc/{pid}/task/*/wchan  # where these are; to end it: executor-api triage --kill {pid}"
        return Finding("zombies", severity, what, who, do)
    who = f"{describe(family.parent)} does not wait for its children{_HEEDS[family.heed]}"
    return Finding("zombies", severity, what, who, _bury(family), family.parent)


_HEEDS = {
    Heed.HANDLES: "; it has a handler for SIGCHLD",
    Heed.BLOCKS: "; it blocks SIGCHLD",
    Heed.IGNORES: "; it ignores SIGCHLD",
    Heed.DEFAULT: "; SIGCHLD does nothing to it",
    Heed.UNKNOWN: "",
}


_HINDRANCES = {
    "T": "kill -CONT {0}  # it is stopped, so it can't wait for them",
    "t": "grep TracerPid /proc/{0}/status  # a debugger has stopped it: let it go on",
    "D": "cat /proc/{0}/stack  # it is in D state itself, and collects none until that is over",
}


def _bury(family: Bereaved) -> str:
    parent = family.parent
    if parent.state in _HINDRANCES:
        return _HINDRANCES[parent.state].format(parent.pid)
    if family.heed in {Heed.HANDLES, Heed.BLOCKS, Heed.UNKNOWN}:
        after = "give the container an init (docker run --init)" if parent.pid == 1 else restart_command(parent)
        return f"executor-api triage --nudge  # if they stay: {after}"
    if parent.pid == 0:
        return "look on the host of this container: executor-api triage"
    if parent.pid == 1:
        return "if this is a container, start it anew with an init that waits (docker run --init)"
    return f"{restart_command(parent)}  # a nudge does not help: when it ends, init collects them"


def _stuck(situation: Situation) -> Iterator[Finding]:
    groups: defaultdict[tuple[str | None, str | None, int | None, int | None], list[Stuck]] = defaultdict(list)
    for stuck in situation.stuck:
        parent, leader = (who.pid if who else None for who in (stuck.parent, stuck.leader))
        groups[stuck.function, stuck.mount_point, parent, leader].append(stuck)
    rest = situation.stuck_in_all - len(situation.stuck)
    for group in sorted(groups.values(), key=len, reverse=True):
        yield _one_wait(group, rest)
        rest = 0


def _one_wait(group: Sequence[Stuck], unread: int) -> Finding:
    """``unread`` more were not looked at; most will be like the largest group."""
    first = group[0]
    kind, words = meaning(first.function)
    seconds = max((stuck.seconds or 0.0 for stuck in group), default=0.0)
    what = f"{several(len(group), 'process', 'processes')} in D state"
    what += f" (and {unread:,} more, not looked at)" if unread else ""
    what += f" for {ago(seconds)}" if seconds else ""
    what += f" in {clean(first.function)}: waits for {words}" if first.function else ": root can see what for"
    if first.path:
        what += f"; {clean(first.path)}" + (f" on {clean(first.mount_point or '')} ({clean(first.mount or '')})")
    many = len(group) + unread >= _MANY_STUCK
    severity = Severity.CRITICAL if many or seconds >= _LONG_SECONDS or kind == "gpu" else Severity.WARNING
    who = describe(first.process)
    if len(group) > 1:
        who = f"{'orphans, such as' if first.parent and first.parent.pid == 1 else 'such as'} {who}"
    who += _started_by(first.leader)
    culprit = first.leader or first.process
    if first.parent and first.parent.pid > 2:  # noqa: PLR2004 - init and the kernel's own are nobody's fault
        who = f"children of {describe(first.parent)}" if len(group) > 1 else f"{describe(first.parent)} started {who}"
        culprit = first.parent
    return Finding("stuck", severity, what, who, _release(kind, group), culprit)


def _release(kind: str, group: Sequence[Stuck]) -> str:
    pid, mount_point = group[0].process.pid, group[0].mount_point
    children = [str(child) for stuck in group for child in stuck.children]
    if kind == "vfork" and len(children) == 1:
        return f"executor-api triage --kill {children[0]}  # the child that it waits for"
    if kind == "vfork" and children:
        return f"kill -KILL {' '.join(children)}  # the children that they wait for"
    if kind == "mount" and mount_point:
        return f"umount -f -l {quoted(mount_point)}  # they get an error and go on; then mount it again"
    commands = {
        "vfork": f"executor-api triage --kill {pid}",
        "mount": "grep -E ' (nfs|cifs|fuse|ceph)' /proc/mounts  # then, of the one that hangs: umount -f -l PATH",
        "gpu": "dmesg | grep -i -E 'xid|nvrm' | tail  # after an Xid error only a reset of the GPU or a reboot helps",
        "disk": "dmesg | grep -i -E 'error|timeout|hung' | tail  # then see to the disk; no signal reaches them before",
        "lock": "echo w > /proc/sysrq-trigger; dmesg | tail -100  # tells who holds the lock: end that wait",
        "frozen": f"grep freezer /proc/{pid}/cgroup  # then: echo THAWED > /sys/fs/cgroup/freezer/PATH/freezer.state",
        "memory": f"cat /proc/{pid}/cgroup  # then raise memory.max of that cgroup, or end something in it",
        "exit": f"ls /proc/{pid}/task  # one of its threads is in D state",
    }
    return commands.get(kind, f"cat /proc/{pid}/stack  # no signal reaches it before what it waits for answers")


def _matters(hog: Hog) -> bool:
    near = bool(hog.limit) and hog.open >= _TIGHT * (hog.limit or 0)
    return near or hog.open >= _MANY_OPEN or sum(hog.close_wait.values()) >= _MANY_CLOSE_WAIT


def _hog(hog: Hog) -> Finding:
    share = hog.open / hog.limit if hog.limit else 0.0
    closed = sum(hog.close_wait.values())
    held = ", ".join(f"{number:,} {clean(kind)}" for kind, number in list(hog.holds.items())[:3])
    what = f"{hog.open:,} of {hog.limit:,} descriptors open" if hog.limit else f"{hog.open:,} descriptors open"
    what += f": {held}" if held else ": root can see which"
    comment = ""
    if closed:
        peer, number = next(iter(hog.close_wait.items()))
        what += f"; {closed:,} sockets in CLOSE_WAIT, {number:,} of them to {peer}"
        comment = "  # it does not close what its peers have closed"
    severity = Severity.NOTICE
    if share >= _TIGHT or closed >= _MANY_CLOSE_WAIT:
        severity = Severity.CRITICAL if share >= _FULL else Severity.WARNING
    do = restart_command(hog.process) + comment
    if hog.limit and share >= _TIGHT:
        room = f"prlimit --pid {hog.process.pid} --nofile={hog.limit * 2}:{hog.limit * 2}"
        do += f"{';' if comment else '  #'} room until then: {room}"
    return Finding("descriptors", severity, what, describe(hog.process), do, hog.process)
