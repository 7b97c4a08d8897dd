"""The look itself: reads what is wrong with a machine, the cheap things of all processes and the dear ones of a few."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from executor_api.processes.cgroups import CGROUPS, list_cgroups, pids_root, read_pids
from executor_api.processes.descriptors import descriptor_survey
from executor_api.processes.pressure import Usage, read_pressure
from executor_api.processes.process_table import PROC, Process, ProcessTable, read_process, read_table
from executor_api.processes.triage import sockets, waits
from executor_api.processes.triage.details import Details
from executor_api.processes.triage.facts import Bereaved, Family, Hog, Identity, Limit, Situation, Stuck
from executor_api.processes.triage.gpus import look_at_gpus
from executor_api.processes.triage.reading import PatientReader, UnreadableError
from executor_api.processes.triage.wording import clean, quoted

BETWEEN_LOOKS = 0.5
"""Seconds between the two looks that a zombie or a process in D state must be in: most are through in milliseconds."""
_MOST_PARENTS, _MOST_STUCK, _MOST_AGED, _MOST_HOGS = 20, 30, 200, 5
_TIGHT = 0.8
_MOST_PIDS = 1 << 22
"""What the kernel takes for pid_max."""
_PART = 200
"""Processes that a look of the survey reads, at least."""
_MANY_ORPHANS = 100
_MEANT_ORPHANS = ("containerd-shim", "conmon")
"""Each looks after a container, one for each of them; they are left to init on purpose."""
_REMOTE = ("nfs", "cifs", "smb", "fuse", "ceph", "9p", "gluster")


def examine(proc: str = PROC, cgroups: str | None = CGROUPS) -> Situation:
    """Look. Raises ``OSError`` where there is no such folder; what can't be read is among the remarks.

    Limits of cgroups are those of this machine: None where ``proc`` is another's.
    """
    details = Details(proc, PatientReader())
    table = read_table(proc)
    zombies, still = _lasting(table, details)
    limits = [*_limits_of_machine(proc), *(_limits_of_cgroups(cgroups) if cgroups else ())]
    limits = [_peopled(limit, table.pids, details) if limit.place and _is_tight(limit) else limit for limit in limits]
    tight = any(_is_tight(limit) and not limit.place for limit in limits)
    closed = sockets.ClosedByPeers()
    bereaved, hogs = _bereaved(zombies, details), _hogs(table.pids, details, closed)
    family, adopted = _families(table.pids, details) if tight or table.orphans >= _MANY_ORPHANS else (None, None)
    gpus = look_at_gpus(table.pids, details)
    remarks = gpus.remarks
    if closed.is_cut:
        remarks.append("some sockets that peers have closed: there are too many to read")
    stuck = [_stuck(process, details) for process in still[:_MOST_STUCK]]
    stuck = [_introduced(found, details) for found in stuck]  # last: command lines of theirs may hang
    if details.reader.hanging:
        remarks.append(f"{details.reader.hanging} reads of {proc} did not answer")
    return Situation(
        processes=len(table.pids),
        zombies=len(zombies),
        orphans=table.orphans,
        bereaved=bereaved,
        stuck=stuck,
        stuck_in_all=len(still),
        busy=len(table.stuck) - len(still),
        hogs=hogs,
        limits=limits,
        family=family if tight else None,
        adopted=adopted,
        gpu=gpus.holders,
        lost_memory=gpus.lost,
        uncounted_gpus=gpus.uncounted,
        gpu_unanswered=gpus.unanswered,
        remarks=remarks,
    )


def _limits_of_machine(proc: str) -> Iterator[Limit]:
    pressure = read_pressure(proc)
    shown = (
        ("process numbers (pid_max)", pressure.pids, "sysctl -w kernel.pid_max={}", True),
        ("tasks (threads-max)", pressure.threads, "sysctl -w kernel.threads-max={}", True),
        ("open files of the machine (file-max)", pressure.descriptors, "sysctl -w fs.file-max={}", False),
    )
    for what, usage, command, of_processes in shown:
        if usage is not None:
            more = max(usage.limit, min(usage.limit * 2, _MOST_PIDS))
            yield Limit(what, usage.used, usage.limit, command.format(more), of_processes)


def _limits_of_cgroups(cgroups: str) -> Iterator[Limit]:
    """The one that is nearest to its limit."""
    root = pids_root(cgroups)
    usages = {folder: usage for folder in list_cgroups(root) if (usage := read_pids(folder)) and usage.limit}
    if usages:
        folder, usage = max(usages.items(), key=lambda item: item[1].share)
        what = clean(f"tasks of cgroup /{os.path.relpath(folder, root)}")
        more = f"echo {usage.limit * 2} > {quoted(folder + '/pids.max')}"
        yield Limit(what, usage.used, usage.limit, more, place=folder)


def _is_tight(limit: Limit) -> bool:
    return limit.of_processes and limit.used >= _TIGHT * limit.most


def _peopled(limit: Limit, pids: Sequence[int], details: Details) -> Limit:
    """With whoever has most processes of its cgroup; in a container, most cgroups have none that can be seen."""
    members: set[int] = set()
    for folder in list_cgroups(limit.place):
        with suppress(OSError, ValueError):
            members.update(map(int, Path(folder, "cgroup.procs").read_text(encoding="ascii").split()))
    family, _ = _families([pid for pid in pids if pid in members], details)
    return replace(limit, family=family)


def _lasting(table: ProcessTable, details: Details) -> tuple[list[Process], list[Process]]:
    """Zombies that nobody has collected in between, and of those in D state who neither moved on nor ran."""
    if not table.zombies and not table.stuck:
        return [], []
    before = {process: details.text(process.pid, "schedstat") for process in table.stuck[:_MOST_AGED]}
    time.sleep(BETWEEN_LOOKS)
    zombies = [zombie for zombie in table.zombies if read_process(zombie.pid, details.proc) == zombie]
    stuck = [
        process
        for process, ran in before.items()
        if read_process(process.pid, details.proc) == process and details.text(process.pid, "schedstat") == ran
    ]
    return zombies, stuck


def _stuck(process: Process, details: Details) -> Stuck:
    function = (details.text(process.pid, "wchan") or "").strip()
    path = _path_waited_for(process.pid, details)
    mount = waits.mount_of(path, waits.read_mounts(details.text(process.pid, "mountinfo"))) if path else None
    children = (details.text(process.pid, f"task/{process.pid}/children") or "").split()
    return Stuck(
        Identity(process.pid, process.name, process.state, process.parent),
        None,
        function if function not in {"", "0"} else None,
        path,
        f"{mount.type} from {mount.source}" if mount else None,
        mount.point if mount else None,
        seconds=details.idle(process),
        children=[int(child) for child in children],
        leader=_leader(process.session, details) if process.parent == 1 and process.session != process.pid else None,
    )


def _introduced(stuck: Stuck, details: Details) -> Stuck:
    """With who it is and who started it."""
    parent = stuck.process.parent
    return replace(
        stuck, process=details.identity(stuck.process.pid), parent=details.identity(parent) if parent else None
    )


def _path_waited_for(pid: int, details: Details) -> str | None:
    """The file of the system call it is in; else the folder it is in, if that is on another machine."""
    folder = f"{details.proc}/{pid}"
    descriptor = waits.descriptor_waited_for(details.text(pid, "syscall"))
    try:
        if descriptor is not None:
            return details.reader.link(folder, f"fd/{descriptor}")
        here = details.reader.link(folder, "cwd")
    except UnreadableError:
        return None
    mount = waits.mount_of(here, waits.read_mounts(details.text(pid, "mountinfo")))
    return here if mount and mount.type.startswith(_REMOTE) else None


def _bereaved(zombies: Sequence[Process], details: Details) -> list[Bereaved]:
    families: defaultdict[int, list[Process]] = defaultdict(list)
    for zombie in zombies:
        families[zombie.parent].append(zombie)
    largest = sorted(families.items(), key=lambda family: -len(family[1]))
    return [_family_of(parent, dead, details) for parent, dead in largest[:_MOST_PARENTS]]


def _family_of(parent: int, dead: Sequence[Process], details: Details) -> Bereaved:
    ages = [age for zombie in dead[:_MOST_AGED] if (age := details.idle(zombie)) is not None]
    return Bereaved(
        details.identity(parent),
        len(dead),
        dict(Counter(zombie.name for zombie in dead).most_common(3)),
        max(ages, default=None),
        details.heed(parent),
        half_dead=[zombie.pid for zombie in dead if zombie.threads > 1],
    )


def _hogs(pids: Sequence[int], details: Details, closed: sockets.ClosedByPeers) -> list[Hog]:
    survey = descriptor_survey(details.proc)
    found: dict[int, Usage] = {}
    for start in range(0, len(pids), _PART):
        found.update(survey.look(pids[start : start + _PART]))
    worst = sorted(found.items(), key=lambda item: (item[1].share, item[1].used), reverse=True)
    return [_hog(pid, usage, details, closed) for pid, usage in worst[:_MOST_HOGS]]


def _hog(pid: int, usage: Usage, details: Details, closed: sockets.ClosedByPeers) -> Hog:
    folder = f"{details.proc}/{pid}"
    try:
        links = list(sockets.read_links(folder))
    except OSError:
        links = []
    numbers = sockets.socket_numbers(links)
    by_peer = closed.count(folder, numbers) if numbers else {}
    return Hog(details.identity(pid), usage.used, usage.limit, sockets.count_kinds(links), by_peer)


def _families(pids: Sequence[int], details: Details) -> tuple[Family | None, Family | None]:
    """Who has most processes, and the most frequent kind of orphans. Reads each again: only where they are many."""
    processes = [process for pid in pids if (process := read_process(pid, details.proc))]
    children = Counter(process.parent for process in processes if process.parent > 2)  # noqa: PLR2004 - the kernel's own
    adopted = _adopted(
        [process for process in processes if process.parent == 1 and process.session != process.pid], details
    )
    if children and (adopted is None or adopted.size <= children.most_common(1)[0][1]):
        parent, size = children.most_common(1)[0]
        return Family(details.identity(parent), size), adopted
    return adopted, adopted


def _adopted(orphans: Sequence[Process], details: Details) -> Family | None:
    left = [orphan for orphan in orphans if not orphan.name.startswith(_MEANT_ORPHANS)]
    if not left:
        return None
    name = Counter(orphan.name for orphan in left).most_common(1)[0][0]
    alike = [orphan for orphan in left if orphan.name == name]
    session, size = Counter(orphan.session for orphan in alike).most_common(1)[0]
    leader = _leader(session, details) if 2 * size > len(alike) else None
    return Family(details.identity(alike[0].pid), len(alike), orphans=True, leader=leader)


def _leader(session: int, details: Details) -> Identity | None:
    """Of a session; None if it has ended, or is init."""
    process = read_process(session, details.proc) if session > 1 else None
    return details.identity(session) if process and process.session == session else None
