"""In the place of ``subprocess.run``: in processes that fork, in thread pools, and whatever signals are set to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.machine import Marked, eventually, nurseries

from executor_api import Executor
from executor_api.domain.outcome import Reason

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # forks are what some tests show

AGENT = """
import os, signal, sys
if sys.argv[1] == "ignored":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
elif sys.argv[1] == "blocked":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
else:
    def reap(*_):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
    signal.signal(signal.SIGCHLD, reap)
from executor_api import Executor
with Executor.local() as executor:
    print(executor.run("exit 7").exit_code, executor.run("sleep 60", timeout=0.2).reason.value)
    print(executor.run("sh -c 'exit 3'; echo $?").stdout, end="")
"""


def forked(action: Callable[[], object]) -> int:
    """Run it in a fork of this process; the pid."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(100)
        try:
            action()
        finally:
            os._exit(1)
    return pid


def leave(text: str) -> None:
    """End a fork, exit code 0 if the text is what it says."""
    os._exit(0 if "another process's" in text else 2)


def test_a_fork_is_told_to_make_its_own_executor() -> None:
    """A call there fails at once instead of waiting for a thread it does not have, and closing it harms nobody."""
    with Executor.local() as executor:

        def misuse() -> None:
            with executor:
                pass
            try:
                executor.run("true")
            except RuntimeError as error:
                leave(str(error))

        _, status = os.waitpid(forked(misuse), 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert executor.run("echo on").stdout == "on\n"


def test_a_fork_makes_one_that_works() -> None:
    """An executor made after the fork serves the fork, beside the other's."""

    def use() -> None:
        with Executor.local() as own:
            found = own.run("echo own").stdout
        os._exit(0 if found == "own\n" else 2)

    with Executor.local() as executor:
        pid = forked(use)
        assert executor.run("echo on").stdout == "on\n"
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_closing_does_not_wait_for_forks(marked: Marked) -> None:
    """A fork has copies of every socket; sandboxes and nurseries end all the same, long before it does."""
    others = set(nurseries())
    executor = Executor.local()
    with ThreadPoolExecutor() as pool:
        call = pool.submit(executor.run, f"{marked.sleeper()} & {marked.sleeper()}", timeout=60)
        eventually(marked.pids)
        pid = forked(lambda: time.sleep(90))
        try:
            executor.close()
            assert call.result(60).reason is Reason.SANDBOX_LOST
            assert set(nurseries()) == others
            eventually(lambda: not marked.pids())
            assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.mark.parametrize("sigchld", ["ignored", "blocked", "reaped"])
def test_what_a_program_does_with_sigchld_changes_no_call(sigchld: str) -> None:
    """Ignored, blocked, or taken by a reaper that steals every status: exit codes and timeouts are right."""
    command = [sys.executable, "-W", "error", "-c", AGENT, sigchld]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("7 timeout\n3\n", "")


@pytest.mark.parametrize("misuse", [lambda executor: executor.run("true"), Executor.close], ids=["run", "close"])
def test_on_output_cannot_wait_for_the_thread_it_runs_on(misuse: Callable[[Executor], object]) -> None:
    """It gets an error, which ends its call, instead of waiting for itself; the next call runs."""
    with Executor.local() as executor:
        with pytest.raises(RuntimeError, match="can't wait for itself"):
            executor.run("echo 1; sleep 60", on_output=lambda *_: misuse(executor))
        assert executor.run("echo on").stdout == "on\n"


def test_calls_beyond_the_pool_wait_their_turn_and_time_out_by_their_own_clock(marked: Marked) -> None:
    """A timeout counts from the start of a call: those that time out leave nothing, those behind them are whole."""
    with Executor.local() as executor, ThreadPoolExecutor(8) as pool:
        commands = [f"{marked.sleeper()} & {marked.sleeper()}", "echo on"] * 12
        results = list(
            pool.map(lambda command: executor.run(command, timeout=0.5 if "on" not in command else 30), commands)
        )
        assert {result.reason for result in results[::2]} == {Reason.TIMEOUT}
        assert {result.stdout for result in results[1::2]} == {"on\n"}
        assert marked.pids() == []
