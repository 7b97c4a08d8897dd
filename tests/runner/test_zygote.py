"""The process that forks a reused sandbox's interpreters: out of reach of what calls do, or missed at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.machine import eventually
from support.pod import AS_FIRST_PROCESS, SECONDS, TOKEN, Pod, pod, python, reused, shell

SEARCH = f"""
import re
found = 0
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb") as memory:
    for line in maps:
        if " rw" in line:
            start, end = (int(number, 16) for number in line.split()[0].split("-"))
            memory.seek(start)
            found += len(re.findall(rb"[{TOKEN[0]}]{TOKEN[1:]}", memory.read(end - start)))
print(found)
"""
PRY = """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) != os.getpid():
        for name in ("mem", "environ", "fd/3"):
            try:
                open(f"/proc/{pid}/{name}", "rb").read(1)
            except PermissionError:
                continue
            print(pid, name)
"""


@pytest.fixture
def first(tmp_path: Path) -> Iterator[Pod]:
    """A runner that is PID 1."""
    with pod(tmp_path / "pod", prefix=AS_FIRST_PROCESS) as found:
        yield found
        assert "Traceback" not in found.errors


def _inside(first: Pod) -> list[psutil.Process]:
    """All but the runner."""
    (runner,) = psutil.Process(first.process.pid).children()
    return runner.children(recursive=True)


def test_no_call_has_the_token_in_its_memory(first: Pod) -> None:
    """The interpreter of each call, of the first and of those that follow, was forked from one that never heard it."""
    assert first.run(python(SEARCH, **reused())).stdout == b"0\n"
    assert first.run(python(SEARCH, **reused("e1", "e2"))).stdout == b"0\n"


def test_a_call_can_look_into_no_process_but_its_own(first: Pod) -> None:
    """Memory, environment and descriptors of the runner and of the zygote are not for same-user code to read."""
    first.run(shell("true", **reused()))
    assert first.run(python(PRY, **reused("e1", "e2"))).stdout == b""


@pytest.mark.parametrize("number", ["KILL", "STOP"])
def test_a_call_that_strikes_all_it_can_is_the_last(first: Pod, number: str) -> None:
    """A zygote that was killed or stopped makes no spare: the call is reported truly, and the sandbox leaves."""
    first.run(shell("true", **reused()))
    report = first.run(shell(f"kill -{number} -1; exit 3", **reused("e1", "e2"))).report
    assert (report["exit_code"], report["cause"], report["processes"]["left_behind"]) == (3, None, 0)
    assert first.process.wait(SECONDS) == 0


def test_what_calls_leave_is_killed_and_the_zygote_stays(first: Pod) -> None:
    """Call after call leaves daemons and stopped processes; each is counted and gone, and the sandbox goes on."""
    first.run(shell("true", **reused()))
    eventually(lambda: len(_inside(first)) == 2)
    before = {process.pid for process in _inside(first)}
    for number in range(1, 31):
        command = "setsid sleep 60 & sh -c 'kill -STOP $$' & sleep 0.02; true"
        report = first.run(shell(command, **reused(f"e{number}", f"e{number + 1}"))).report
        assert (report["exit_code"], report["processes"]["left_behind"]) == (0, 2)
    eventually(lambda: len(_inside(first)) == 2)
    (zygote,) = before & {process.pid for process in _inside(first)}
    assert psutil.Process(zygote).status() != psutil.STATUS_ZOMBIE


def test_a_call_that_is_stopped_for_time_ends_though_it_ignores_that(first: Pod) -> None:
    """The zygote outlives the SIGTERM that its sandbox gets at a timeout, and kills what does not heed it."""
    first.run(shell("true", **reused()))
    call = shell("trap '' TERM; sleep 60 & wait; sleep 60", timeout_seconds=0.2, grace_seconds=0.1)
    assert first.run({**call, **reused("e1", "e2")}).report["cause"] == "timeout"
    assert first.run(shell("echo on", **reused("e2", "e3"))).stdout == b"on\n"
