"""What triage does when told to: each is shown first, asked for where it ends something, and its effect counted."""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from executor_api.processes.process_table import PROC, STUCK, Process, read_process, read_table
from executor_api.processes.triage.details import Details
from executor_api.processes.triage.facts import Heed, Identity
from executor_api.processes.triage.reading import PatientReader
from executor_api.processes.triage.signals import (
    Nudged,
    Target,
    check_may_end,
    count_left,
    find_successors,
    nudge,
    own_line,
)
from executor_api.processes.triage.waits import meaning
from executor_api.processes.triage.wording import clean, describe, restart_command, several, unit_of

GRACE_SECONDS = 10.0
"""So long a process has to end after SIGTERM."""
_KILL_SECONDS, _BURIAL_SECONDS, _RESTART_SECONDS = 3.0, 2.0, 3.0
_COLLECT_SECONDS = 0.5
"""So long a good parent has for that."""
_MOST_NUDGED = 20

Tell: TypeAlias = Callable[[str], None]
Consent: TypeAlias = Callable[[str], bool]
"""Asks a question; False is no."""


@dataclass(frozen=True, slots=True)
class Hands:
    """How an action speaks with whoever wanted it."""

    tell: Tell
    consents: Consent


def nudge_parents(hands: Hands) -> bool:
    """Send SIGCHLD to the parents of zombies; whether no zombie of theirs is left."""
    families: defaultdict[int, list[Process]] = defaultdict(list)
    for zombie in read_table().zombies:
        families[zombie.parent].append(zombie)
    details = _details()
    largest = sorted(families.items(), key=lambda family: -len(family[1]))[:_MOST_NUDGED]
    for parent, zombies in largest:
        hands.tell(f"SIGCHLD goes to {describe(details.identity(parent))}: {several(len(zombies), 'zombie')}")
    done = [nudge(parent, zombies) for parent, zombies in largest]
    for nudged in done:
        hands.tell(_effect(nudged, details.identity(nudged.pid), details.heed(nudged.pid)))
    if not done:
        hands.tell("there is no zombie, so nobody was nudged")
    return not any(nudged.after for nudged in done)


def restart_parent(pid: int, hands: Hands) -> bool:
    """End a process by SIGTERM, so that init collects its zombies and whoever looks after it starts it again.

    Returns whether it ended. Raises ``RefusedError``.
    """
    with Target(pid) as target:
        process = target.process
        check_may_end(process, own_line())
        identity = _details().identity(pid)
        zombies = [zombie for zombie in read_table().zombies if zombie.parent == pid]
        unit = unit_of(identity)
        hands.tell(f"{describe(identity)}, parent of {several(len(zombies), 'zombie')}")
        hands.tell(f"{clean(unit)} may start it again" if unit else "nothing is known that would start it again")
        if not hands.consents(f"Send SIGTERM to process {pid}?"):
            hands.tell("nothing was done")
            return False
        known = read_table().pids
        target.send(signal.SIGTERM)
        if not target.ended_within(GRACE_SECONDS):
            hands.tell(
                _survival(pid, f"it goes on {GRACE_SECONDS:g} s after SIGTERM: executor-api triage --kill {pid}")
            )
            return False
        left = count_left(zombies, _BURIAL_SECONDS)
        hands.tell(f"process {pid} has ended; of its {several(len(zombies), 'zombie')}, {left:,} are left")
        hands.tell(_succession(identity, find_successors(_like(identity), known, _RESTART_SECONDS)))
        return True


def kill(pid: int, hands: Hands) -> bool:
    """Send SIGKILL; whether the process ended. Raises ``RefusedError``."""
    with Target(pid) as target:
        check_may_end(target.process, own_line())
        hands.tell(describe(_details().identity(pid)))
        if not hands.consents(f"Send SIGKILL to process {pid}?"):
            hands.tell("nothing was done")
            return False
        target.send(signal.SIGKILL)
        ended = target.ended_within(_KILL_SECONDS)
        if not ended:
            hands.tell(_survival(pid, f"process {pid} is there {_KILL_SECONDS:g} s after SIGKILL"))
        elif count_left([target.process], _COLLECT_SECONDS):
            hands.tell(f"process {pid} is dead, and a zombie until its parent {target.process.parent} collects it")
        else:
            hands.tell(f"process {pid} has ended")
        return ended


def _details() -> Details:
    return Details(PROC, PatientReader())


def _effect(nudged: Nudged, parent: Identity, heed: Heed) -> str:
    if nudged.problem:
        return f"pid {parent.pid}: {nudged.problem}"
    told = f"pid {parent.pid}: {nudged.before - nudged.after:,} of {several(nudged.before, 'zombie')} collected"
    if not nudged.after:
        return told
    reasons = {
        Heed.IGNORES: "it ignores SIGCHLD",
        Heed.DEFAULT: "SIGCHLD does nothing to it",
        Heed.BLOCKS: "it blocks SIGCHLD and has not asked for it",
        Heed.HANDLES: "its handler does not collect them",
        Heed.UNKNOWN: "how it takes SIGCHLD could not be read",
    }
    return f"{told}; {nudged.after:,} stay until it ends ({reasons[heed]}): {restart_command(parent)}"


def _survival(pid: int, told: str) -> str:
    """Why a process is still there."""
    now = read_process(pid)
    if now is None or now.state != STUCK:
        return told
    function = (_details().text(pid, "wchan") or "").strip()
    where = f" in {clean(function)}, waiting for {meaning(function)[1]}" if function not in {"", "0"} else ""
    return f"process {pid} is in D state{where}: it ends when that is over, and no further signal changes it"


def _like(gone: Identity) -> Callable[[int], bool]:
    """Whether a process was started by the same command."""

    def is_like(pid: int) -> bool:
        found = _details().identity(pid)  # read anew: a process is its parent's likeness until its exec
        return (found.name, found.command) == (gone.name, gone.command)

    return is_like


def _succession(identity: Identity, successors: list[int]) -> str:
    if successors:
        return f"started again: pid {', '.join(map(str, successors[:5]))}"
    told = clean(identity.command or identity.name)
    return f"that command has not started again within {_RESTART_SECONDS:g} s; it was: {told}"
