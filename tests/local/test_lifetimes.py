"""Whoever ends, and however: nothing of a sandbox outlives the service and its nursery."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from support.machine import Marked, eventually, nurseries, zombies

from executor_api import Executor
from executor_api.backends.local.backend import STOCK, LocalBackend
from executor_api.backends.local.nursery import Nursery, NurseryKind
from executor_api.domain.outcome import Reason
from executor_api.domain.template import Template
from executor_api.errors import UnavailableError

SERVICE = """
import os, sys, tempfile
tempfile.tempdir = sys.argv[1]
from executor_api import Executor
from executor_api.backends.local.backend import STOCK, LocalBackend
from executor_api.domain.template import Template
backend = LocalBackend(os.environ, namespaces=sys.argv[2] == "True")
with Executor(backend, {"default": Template(name="default")}) as executor:
    executor.start()
    print("started", flush=True)
    executor.run(sys.argv[3], on_output=lambda *_: print("running", flush=True))
"""


@dataclass
class Client:
    """A process with an executor whose call sleeps, in sessions of its own as well."""

    process: subprocess.Popen[str]
    folder: Path
    marked: Marked = field(default_factory=Marked)

    @property
    def nursery(self) -> psutil.Process:
        """The process that makes its sandboxes: the innermost one, where there is one around it."""
        outer = psutil.Process(self.process.pid).children()[0]
        inner = [child for child in outer.children() if "executor_runner.nursery" in child.cmdline()]
        return inner[0] if outer.num_fds() <= 4 and inner else outer


@pytest.fixture(params=[True, False], ids=["namespaces", "no-namespaces"])
def client(request: pytest.FixtureRequest, tmp_path: Path, marked: Marked) -> Iterator[Client]:
    command = f"setsid {marked.sleeper()} & {marked.sleeper()} & echo; sleep 600; : {marked.word}"
    arguments = [sys.executable, "-c", SERVICE, str(tmp_path), str(request.param), command]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["started\n", "running\n"]
        yield Client(process, tmp_path, marked)
        process.kill()


def gone(client: Client) -> bool:
    """No process and no folder."""
    return not client.marked.pids() and not list(client.folder.iterdir())


def test_all_ends_with_a_killed_service(client: Client) -> None:
    """SIGKILL leaves the service no last word; its nursery sees the socket close, ends all and clears up."""
    assert client.marked.pids()
    client.process.kill()
    eventually(lambda: gone(client))


def test_all_ends_with_a_service_that_is_interrupted(client: Client) -> None:
    """Ctrl-C ends the call that runs, and the executor closes behind it."""
    client.process.send_signal(signal.SIGINT)
    client.process.wait(60)
    assert gone(client)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_the_call_ends_with_its_nursery(client: Client, number: signal.Signals) -> None:
    """With or without a namespace around it, no process outlives the nursery, and the executor removes the folder."""
    client.nursery.send_signal(number)
    eventually(lambda: not client.marked.pids())
    client.process.wait(60)
    assert gone(client)


def test_a_nursery_that_died_is_started_again(executor: Executor) -> None:
    """The next call finds another nursery; the one that ran when it died is reported as lost."""
    with ThreadPoolExecutor() as pool:
        sleeping = pool.submit(executor.run, "echo on; sleep 60", timeout=60)
        eventually(lambda: [p for p in nurseries() if below(p, "sleep")])
        for process in nurseries():
            process.kill()
        assert sleeping.result(60).reason is Reason.SANDBOX_LOST
    eventually(lambda: not zombies())
    assert executor.run("echo again").stdout == "again\n"


async def test_a_nursery_found_dead_by_who_asks_it_is_waited_for() -> None:
    """Whichever side notices first, the one who asks for a sandbox or the one who listens, no zombie stays."""
    others = nurseries()
    nursery = Nursery(NurseryKind((), "none", namespaces=False), stock=1)
    await nursery.start(os.environ)
    sock, _ = await nursery.take()
    sock.close()
    (process,) = set(nurseries()) - set(others)
    made = process.children(recursive=True)
    process.kill()
    while process.status() != psutil.STATUS_ZOMBIE:
        pass  # awaiting would let the event loop see it first
    psutil.wait_procs(made, 60)
    with pytest.raises(UnavailableError):
        await nursery.take()
    await asyncio.to_thread(eventually, lambda: not zombies())


def below(process: psutil.Process, name: str) -> list[psutil.Process]:
    """Descendants of that name."""
    try:
        return [child for child in process.children(recursive=True) if child.name() == name]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.parametrize("namespaces", [True, False])
def test_a_stock_sandbox_killed_while_it_waits_is_replaced(namespaces: bool) -> None:  # noqa: FBT001 - pytest gives it by position
    """Calls go on as if nothing had been, and what was killed leaves no process."""
    others = nurseries()
    with Executor(LocalBackend(os.environ, namespaces=namespaces), {"default": Template(name="default")}) as executor:
        executor.start()
        (nursery,) = set(nurseries()) - set(others)
        # All that wait, each with its spare: one that is only being made would be killed by half.
        eventually(lambda: len(nursery.children(recursive=True)) >= 2 * STOCK)
        waiting = nursery.children(recursive=True)
        for process in waiting:
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended with the one before
                if not namespaces or process.ppid() != nursery.pid:
                    process.kill()
        psutil.wait_procs(waiting, 1)
        assert [executor.run(f"echo {n}").stdout for n in range(12)] == [f"{n}\n" for n in range(12)]


def test_a_runner_killed_by_its_call_loses_the_sandbox_only(executor: Executor, marked: Marked) -> None:
    """Without a PID namespace a call can kill its own runner: it is lost, what it left is ended, others run on."""
    command = f"setsid {marked.sleeper()} & {marked.sleeper()} & sleep 0.2; kill -9 $PPID; sleep 600; : {marked.word}"
    result = executor.run(command, timeout=2)
    eventually(lambda: not marked.pids())
    assert result.reason in (Reason.SANDBOX_LOST, Reason.TIMEOUT)
    assert executor.run("echo on").stdout == "on\n"


def test_a_call_that_stops_its_runner_is_lost(executor: Executor, marked: Marked) -> None:
    """Without a PID namespace a call can reach its runner; a stopped one is ended with all it ran."""
    result = executor.run(
        f"{marked.sleeper()} & echo before; sleep 0.3; kill -STOP $PPID; {marked.sleeper()}", timeout=3
    )
    assert result.stdout == "before\n"
    assert result.reason in (Reason.SANDBOX_LOST, Reason.TIMEOUT)  # PID 1 can't be stopped from inside
    eventually(lambda: not marked.pids())


def test_closing_while_many_threads_run_calls_answers_them_all() -> None:
    """No thread hangs, whatever it was at: its call is lost or refused, and no nursery is left behind."""
    others = set(nurseries())
    executor = Executor.local()
    answers: list[str] = []

    def work() -> None:
        try:
            while True:
                answers.append(str(executor.run("sleep 0.05").reason))
        except (RuntimeError, UnavailableError) as refusal:
            answers.append(type(refusal).__name__)

    with ThreadPoolExecutor(16) as pool:
        workers = [pool.submit(work) for _ in range(16)]
        eventually(lambda: len(answers) > 32)
        executor.close()
        for worker in workers:
            worker.result(60)
    assert set(answers) <= {"None", "sandbox_lost", "RuntimeError", "UnavailableError"}
    assert set(nurseries()) == others
