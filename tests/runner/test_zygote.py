"""The process that forks a reused sandbox's interpreters: out of reach of what calls do, or missed at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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
STAYING = (
    "import os, resource\nstaying = [int(p) for p in os.listdir('/proc') if p.isdigit() and int(p) != os.getpid()]\n"
)
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


@pytest.fixture(autouse=True, scope="module")
def _can_be_first() -> None:
    if shutil.which("unshare") is None or subprocess.run([*AS_FIRST_PROCESS, "true"], check=False).returncode != 0:
        pytest.skip("no user namespaces here, or no unshare and setpriv: no process can be made PID 1")


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


@pytest.mark.parametrize("which", [0, 1], ids=["runner", "zygote"])
@pytest.mark.parametrize(
    "change",
    [
        "resource.prlimit({pid}, resource.RLIMIT_FSIZE, (1000, 1000))",
        "resource.prlimit({pid}, resource.RLIMIT_NPROC, (700, 700))",
        "os.setpriority(os.PRIO_PROCESS, {pid}, 19)",
        "os.sched_setscheduler({pid}, os.SCHED_IDLE, os.sched_param(0))",
    ],
    ids=["file size", "processes", "niceness", "policy"],
)
def test_a_call_that_changes_how_the_next_would_run_is_the_last(tmp_path: Path, which: int, change: str) -> None:
    """The kernel lets any process change limits and priority of its user's others; the sandbox then is not kept."""
    usual = ("nice", "-n", str(-os.nice(0)))  # however nice the tests are: at 19 there would be nothing to change
    with pod(tmp_path / "pod", prefix=(*usual, *AS_FIRST_PROCESS)) as sandbox:
        sandbox.run(shell("true", **reused()))
        code = STAYING + change.format(pid=f"sorted(staying)[{which}]")
        assert sandbox.run(python(code, **reused("e1", "e2"))).report["exit_code"] == 0
        assert sandbox.process.wait(SECONDS) == 0


def test_signals_that_a_call_has_queued_are_not_there_in_the_next(first: Pod) -> None:
    """What waits at the zygote counts against the user's limit of pending signals; so none may wait."""
    queue = (
        "import ctypes, signal\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "for pid in set(staying) - {1}:\n    libc.sigqueue(pid, signal.SIGRTMIN + 2, None)"
    )
    first.run(shell("true", **reused()))
    report = first.run(python(STAYING + queue, **reused("e1", "e2"))).report
    assert report["exit_code"] == 0
    assert first.process.wait(SECONDS) == 0  # an uncaught one ends the zygote


def test_a_call_can_not_make_up_a_signal_from_outside(first: Pod) -> None:
    """A SIGTERM that claims to come from outside the sandbox does not end the call as if the cluster had wished it."""
    code = (
        "import ctypes, os, struct, time\n"
        "info = ctypes.create_string_buffer(struct.pack('=iiiiII', 15, 0, -1, 0, 0, 0), 128)\n"
        "queue_info = {'x86_64': 129, 'aarch64': 138}[os.uname().machine]\n"
        "print(ctypes.CDLL(None).syscall(queue_info, 1, 15, info))\n"
        "time.sleep(0.3)\nprint('lives')"
    )
    journal = first.run(python(code))
    assert (journal.stdout, journal.report["cause"], journal.report["exit_code"]) == (b"0\nlives\n", None, 0)


def test_the_zygote_is_at_nobodys_cost(first: Pod) -> None:
    """The processor time of many forks is not billed to the call that ends the zygote."""
    for number in range(100):
        first.run(shell("true", **reused(f"e{number}" if number else "", f"e{number + 1}")))
    zygote = min(_inside(first), key=lambda process: process.create_time())
    spent = sum(zygote.cpu_times()[:2])
    used = first.run(shell("kill -9 -1; true", **reused("e100", "e101"))).report["usage"]["cpu_seconds"]
    assert used is not None
    assert used < spent


def test_many_busy_daemons_cost_the_call_and_not_the_sandbox(first: Pod) -> None:
    """Killing may take its time on a busy machine: as long as the zygote does as it is told, it stays."""
    first.run(shell("true", **reused()))
    for number in range(1, 4):
        command = "for i in $(seq 60); do (while :; do :; done) & done; true"
        first.run(shell(command, **reused(f"e{number}", f"e{number + 1}")))
    assert first.run(shell("echo on", **reused("e4", "e5"))).stdout == b"on\n"


def test_a_runner_that_goes_before_it_has_read_an_answer_is_no_error() -> None:
    """A zygote in a user's own process would print it there, as programs end with calls under way."""
    program = """
import select, socket, threading
from executor_runner import zygote

zygote._fork = lambda descriptors: b"an answer"
runner, control = socket.socketpair()
serving = threading.Thread(target=zygote._serve, args=(control,))
serving.start()
runner.send(b"S")
select.select([runner], [], [])
runner.close()
serving.join()
"""
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=SECONDS)
    assert ended.stderr == b""
