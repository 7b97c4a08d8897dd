"""Reaper and trees, on real processes: a subreaper of its own tries each, so that no other process is in reach."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest

PRELUDE = """
import json, os, signal, sys, time
from executor_runner import linux
from executor_runner.process import DescendantTree, Reaper, count_zombies
linux.become_subreaper()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
tree, reaper = DescendantTree(), Reaper()

def start(*argv):
    pid = os.fork()  # not Popen, which waits for what it has forgotten
    if pid == 0:
        os.setsid()
        os.execvp(argv[0], argv)
    return pid

def shell(command):
    return start("sh", "-c", command)

def until(holds):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)

def end_all():
    rounds = 0
    while not reaper.none_left:
        tree.kill_all()
        signal.sigtimedwait([signal.SIGCHLD], 0.05)
        reaper.reap()
        rounds += 1
    return rounds
"""


def tell(script: str) -> Any:
    """Run the script behind the prelude and return what it prints as JSON."""
    source = PRELUDE + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_status_is_kept() -> None:
    """Whatever ends at once, by code or by signal, is found under its pid, and then there is nobody left."""
    found = tell("""
        wanted = {shell(f"exit {code}"): [code, None] for code in (0, 7, 137, 255)}
        wanted |= {shell(f"kill -{number} $$"): [None, number] for number in (9, 15, 6)}
        def all_ended():
            reaper.reap()
            return reaper.none_left
        until(all_ended)
        found = {pid: [ending.exit_code, ending.signal] for pid, ending in reaper.endings.items()}
        print(json.dumps([found == wanted, len(found)]))
    """)
    assert found == [True, 7]


def test_while_one_lives_the_reaper_says_so() -> None:
    """Reaping never waits, and knows that somebody is left."""
    found = tell("""
        shell("sleep 60")
        reaper.reap()
        before = reaper.none_left
        end_all()
        print(json.dumps([before, reaper.none_left]))
    """)
    assert found == [False, True]


@pytest.mark.parametrize(
    "command",
    [
        "sleep 60 & sleep 60",
        "setsid sleep 60 & setsid -f sleep 60; sleep 60",
        "(setsid sh -c 'sleep 60 & sleep 60' &) ; sleep 60",
        "trap '' TERM INT HUP; sleep 60 & while :; do sleep 0.1; done",
        "kill -STOP $$",
    ],
)
def test_no_session_group_or_trap_escapes(command: str) -> None:
    """Daemons, groups, ignorers of signals and the stopped are found and killed."""
    found = tell(f"""
        shell({command!r})
        time.sleep(0.3)
        many = len(tree.pids())
        end_all()
        print(json.dumps([many > 0, tree.pids()]))
    """)
    assert found == [True, []]


def test_what_forks_without_end_is_killed() -> None:
    """Processes that replace themselves all the time, each in a session of its own, do not outrun the kill."""
    found = tell("""
        chain = "import os\\nwhile True:\\n    if os.fork(): os._exit(0)\\n    os.setsid()"
        for _ in range(3):
            start(sys.executable, "-c", chain)
        time.sleep(0.5)  # a thousand zombies by now, which make every look at /proc slow
        rounds = end_all()
        time.sleep(0.1)
        print(json.dumps([rounds < 20, tree.pids()]))
    """)
    assert found == [True, []]


def test_zombies_are_told_from_the_living() -> None:
    """A process that ended and was not waited for is a zombie, the one that sleeps is none."""
    found = tell("""
        pids = [shell("exit 0"), shell("exec sleep 60")]
        until(lambda: count_zombies(pids) == 1)
        print(json.dumps([count_zombies([]), count_zombies(pids[1:]), len(tree.pids())]))
        end_all()
    """)
    assert found == [0, 0, 2]


def test_use_is_counted_for_those_who_ended() -> None:
    """CPU time and the largest resident set come from what was reaped."""
    found = tell("""
        start(sys.executable, "-c", "x = bytearray(64 << 20); sum(range(3_000_000))")
        until(lambda: reaper.reap() or reaper.none_left)
        print(json.dumps([reaper.cpu_seconds() > 0.01, reaper.largest_bytes > 64 << 20]))
    """)
    assert found == [True, True]
