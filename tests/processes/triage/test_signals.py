"""How parents take SIGCHLD, and what a nudge changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest
from support.machine import eventually
from support.sick import BLOCKING, DEAF, HALF_DEAD, IGNORING, ONE_A_SIGNAL, running

from executor_api.processes.process_table import PROC, Process, read_process, read_table
from executor_api.processes.triage.details import Details, read_heed
from executor_api.processes.triage.facts import Heed
from executor_api.processes.triage.reading import PatientReader
from executor_api.processes.triage.signals import RefusedError, Target, check_may_end, nudge, own_line


def zombies_of(pid: int) -> list[Process]:
    return [zombie for zombie in read_table().zombies if zombie.parent == pid]


@pytest.mark.parametrize(
    ("code", "heed"),
    [(DEAF, Heed.DEFAULT), (IGNORING, Heed.IGNORES), (BLOCKING, Heed.BLOCKS), (ONE_A_SIGNAL, Heed.HANDLES)],
)
def test_how_real_parents_take_sigchld(code: str, heed: Heed) -> None:
    """The kernel's masks of each parent are read right; of one that is gone nothing is known."""
    with running(code, 1) as parent:
        assert Details(PROC, PatientReader()).heed(parent.pid) == heed
    assert read_heed(None) == Heed.UNKNOWN


def test_a_nudge_is_repeated_as_long_as_it_helps() -> None:
    """A handler that collects one child a signal is nudged until no zombie is left."""
    with running(ONE_A_SIGNAL, 40) as parent:
        zombies = zombies_of(parent.pid)
        assert len(zombies) == 40
        nudged = nudge(parent.pid, zombies)
        assert (nudged.before, nudged.after, nudged.problem) == (40, 0, "")
        assert zombies_of(parent.pid) == []


@pytest.mark.parametrize("code", [DEAF, IGNORING, BLOCKING])
def test_a_nudge_that_does_not_help_says_so(code: str) -> None:
    """Parents that take no notice keep their zombies, go on unharmed, and the figures say that nothing changed."""
    with running(code, 3) as parent:
        nudged = nudge(parent.pid, zombies_of(parent.pid))
        assert (nudged.before, nudged.after) == (3, 3)
        assert len(zombies_of(parent.pid)) == 3
        assert parent.poll() is None


def test_a_parent_that_is_gone_is_not_nudged() -> None:
    """No signal goes to a number that is nobody's."""
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    assert "can't be reached" in nudge(gone.pid, []).problem


def test_what_is_never_ended() -> None:
    """Init, this command's own parents, a thread of the kernel and the dead are refused, each with the reason."""
    own = own_line()
    assert own[0] == os.getpid()
    assert own[1] == os.getppid()
    for pid in own:
        with Target(pid) as target, pytest.raises(RefusedError, match=r"is the init|runs this command"):
            check_may_end(target.process, own)
    with running(DEAF, 1) as parent:
        (zombie,) = zombies_of(parent.pid)
        with pytest.raises(RefusedError, match=f"dead already.*--restart-parent {parent.pid}"):
            check_may_end(zombie, own)
        (alive,) = [found for found in [read_process(parent.pid)] if found]
        check_may_end(alive, own)
    kernel = read_process(2)
    if kernel is not None and kernel.name == "kthreadd":
        with pytest.raises(RefusedError, match="thread of the kernel"):
            check_may_end(kernel, own)


def test_a_process_whose_first_thread_alone_has_ended_can_be_killed() -> None:
    """It looks like a zombie, but has threads left: it is not refused, and SIGKILL ends it."""
    with running(HALF_DEAD) as process:
        eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        with Target(process.pid) as target:
            check_may_end(target.process, own_line())
            assert not target.ended_within(0)
            target.send(signal.SIGKILL)
            assert target.ended_within(60)


def test_a_target_that_ended_gets_no_signal() -> None:
    """A number that is used again is not hit: what was held has ended, and nothing is sent."""
    with running(DEAF, 0) as process, Target(process.pid) as target:
        assert not target.ended_within(0)
        process.kill()
        process.wait()
        assert target.ended_within(60)
        eventually(lambda: read_process(process.pid) is None)
        target.send(signal.SIGTERM)
