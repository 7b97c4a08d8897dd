"""``isolation: reuse`` on this machine: one sandbox for many calls of a tenant, with and without namespaces."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest
from support.machine import Marked, eventually, nurseries

from executor_api import Executor
from executor_api.backends.base import Claim, NotTakenError
from executor_api.backends.local.backend import LocalBackend
from executor_api.backends.local.sandbox import LocalSandbox
from executor_api.domain.execution import Start
from executor_api.domain.outcome import Reason
from executor_api.domain.plan import plan
from executor_api.domain.pool_settings import ReuseLimits
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.runner_call import runner_call
from executor_api.domain.template import Template
from executor_runner.protocol.frames import FrameDecoder, FrameKind, encode_json

STATE = """
import os, sys
print(os.getpid(), os.getcwd(), hasattr(os, "mark"), os.listdir("."), os.listdir(os.environ["HOME"]),
      os.listdir(os.environ["TMPDIR"]), "LEFT" in os.environ)
os.mark = os.environ["LEFT"] = "1"
for folder in (".", os.environ["HOME"], os.environ["TMPDIR"]):
    open(folder + "/file", "w").close()
"""
TRUE = ExecutionRequest(command="true", isolation="reuse")


class Caller:
    """Claims sandboxes of a backend and runs calls in them, as the service does."""

    def __init__(self, backend: LocalBackend, **reuse: Any) -> None:
        self.backend = backend
        self._names = itertools.count(1)
        self._template = Template(name="default", reuse=ReuseLimits(**reuse))

    async def claim(self, tenant: str = "a", request: ExecutionRequest = TRUE) -> tuple[LocalSandbox, Claim]:
        """A sandbox for one more call."""
        claim = Claim(f"e{next(self._names)}", tenant, plan(request, {"default": self._template}))
        return await self.backend.claim(claim), claim

    async def dispatch(self, sandbox: LocalSandbox, claim: Claim) -> None:
        """Run the call to its report."""
        call = encode_json(runner_call(claim.plan, claim.execution_id, claim.tenant, sandbox.follows))
        decoder = FrameDecoder()
        async with contextlib.aclosing(sandbox.dispatch(call)) as journal:  # type: ignore[type-var]
            async for data in journal:
                if any(frame.kind is FrameKind.REPORT for frame in decoder.feed(data)):
                    return
        raise AssertionError("no report")

    async def run(self, tenant: str = "a", *, sound: bool = True) -> tuple[Start, str]:
        """How the call came by its sandbox, and which one it was."""
        sandbox, claim = await self.claim(tenant)
        await self.dispatch(sandbox, claim)
        await sandbox.release(sound=sound)
        return sandbox.start, sandbox.details.name


@asynccontextmanager
async def caller(**reuse: Any) -> AsyncIterator[Caller]:
    """With a backend for one test."""
    backend = LocalBackend(os.environ, namespaces=False)
    await backend.start()
    try:
        yield Caller(backend, **reuse)
    finally:
        await backend.stop()


@pytest.fixture(params=[True, False], ids=["namespaces", "no-namespaces"])
def fresh(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """An executor whose sandboxes nobody has used."""
    with Executor(LocalBackend(os.environ, namespaces=request.param), {"default": Template(name="default")}) as found:
        found.start()
        yield found


def test_a_call_finds_nothing_of_the_one_before(fresh: Executor) -> None:
    """The same sandbox, another process: no file, no variable and no change to a module is left."""
    seen = [fresh.run(code=STATE, isolation="reuse").stdout.split(" ", 1) for _ in range(5)]
    assert len({pid for pid, _ in seen}) == 5
    assert len({state for _, state in seen}) == 1
    assert seen[0][1].endswith(" False [] [] [] False\n")


def test_processes_of_a_call_are_gone_before_the_next(fresh: Executor, marked: Marked) -> None:
    """Daemons end with the call that started them, and the sandbox serves on."""
    command = f"echo $PPID; setsid {marked.sleeper()} & (setsid setsid {marked.sleeper()} &); sleep 0.1"
    runners = {fresh.run(command, isolation="reuse").stdout for _ in range(3)}
    assert marked.pids() == []
    assert len(runners) == 1


def test_endings_are_as_in_a_sandbox_of_ones_own(fresh: Executor) -> None:
    """A timeout, a signal and an exception end their own call and not the one that follows."""
    assert fresh.run("sleep 60", timeout=0.2, isolation="reuse").reason is Reason.TIMEOUT
    assert fresh.run("kill -9 $$", isolation="reuse").reason is Reason.SIGNAL
    assert fresh.run(code="1 / 0", isolation="reuse").reason is Reason.EXCEPTION
    assert fresh.run(code="def f(): return 7", function="f", isolation="reuse").value == 7


@pytest.mark.parametrize("namespaces", [True, False])
def test_a_sandbox_that_died_while_idle_costs_a_retry(namespaces: bool) -> None:  # noqa: FBT001 - pytest gives it by position
    """Whatever ended it between two calls, the next one runs."""
    others = nurseries()
    with Executor(LocalBackend(os.environ, namespaces=namespaces), {"default": Template(name="default")}) as executor:
        executor.start()
        assert executor.run("true", isolation="reuse").succeeded
        (nursery,) = set(nurseries()) - set(others)
        outer = namespaces and "PID" in str(executor.health().notes)  # the nursery itself is below
        spared = nursery.children() if outer else []
        everyone = set(nursery.children(recursive=True)) - set(spared)
        for process in everyone:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(everyone, 60)
        answers = [executor.run(f"echo {n}", isolation="reuse").stdout for n in range(5)]
    assert answers == [f"{n}\n" for n in range(5)]


def test_many_threads_share_nothing(fresh: Executor) -> None:
    """Calls at once get a sandbox each and their own answers."""
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda n: fresh.run(f"echo {n}; ls -A", isolation="reuse").stdout, range(100))
        assert list(answers) == [f"{n}\n" for n in range(100)]


@pytest.mark.parametrize("namespaces", [True, False])
def test_nothing_adds_up(namespaces: bool) -> None:  # noqa: FBT001 - pytest gives it by position
    """After two hundred calls there are as many processes and descriptors as after a few: one sandbox's, and no more.

    None is in stock, so that none is on its way while it is counted.
    """
    commands = ("true", "touch a; mkdir b; touch b/c", "sleep 600 & setsid sleep 600 &", "kill -9 $$")
    backend = LocalBackend(os.environ, stock=0, namespaces=namespaces)
    with Executor(backend, {"default": Template(name="default")}) as executor:
        executor.start()
        own = psutil.Process()

        def processes() -> int:
            return len(own.children(recursive=True))

        def run(rounds: int) -> None:
            for command in commands * rounds:
                executor.run(command, isolation="reuse")

        # The runner, the next call's interpreter, and in a PID namespace the one that forks it.
        with_one = processes() + (3 if "PID" in str(executor.health().notes) else 2)
        run(3)
        eventually(lambda: processes() == with_one)
        descriptors = own.num_fds()
        run(50)
        eventually(lambda: (processes(), own.num_fds()) == (with_one, descriptors))


async def test_a_sandbox_serves_its_own_tenant() -> None:
    """The tenant's next call gets it, another tenant's never does, nor a single-use call."""
    async with caller() as calls:
        start, first = await calls.run("a")
        assert start is not Start.REUSED
        assert await calls.run("a") == (Start.REUSED, first)
        start, second = await calls.run("b")
        assert (start is Start.REUSED, second == first) == (False, False)
        assert await calls.run("b") == (Start.REUSED, second)
        assert await calls.run("a") == (Start.REUSED, first)
        single, _ = await calls.claim("a", ExecutionRequest(command="true"))
        assert single.start is not Start.REUSED
        await single.release()


async def test_one_in_use_is_nobody_elses() -> None:
    """Two calls at once get two sandboxes, and the one used last goes first."""
    async with caller() as calls:
        (one, claim), (two, other) = await calls.claim(), await calls.claim()
        assert one.details.name != two.details.name
        for sandbox, its in ((one, claim), (two, other)):
            await calls.dispatch(sandbox, its)
            await sandbox.release(sound=True)
        assert await calls.run() == (Start.REUSED, two.details.name)


@pytest.mark.parametrize("limits", [{"max_calls": 1}, {"max_age_seconds": 1e-6}], ids=["calls", "age"])
async def test_one_that_has_served_enough_is_closed(limits: dict[str, Any]) -> None:
    """By number of calls and by age; the next call gets another."""
    async with caller(**limits) as calls:
        _, first = await calls.run()
        start, second = await calls.run()
        assert start is not Start.REUSED
        assert first != second


async def test_one_that_is_not_sound_is_closed() -> None:
    """What the service doubts is never used again."""
    async with caller() as calls:
        await calls.run(sound=False)
        start, _ = await calls.run()
        assert start is not Start.REUSED


def test_one_that_is_idle_for_long_ends() -> None:
    """By itself and without a call that would notice."""
    template = Template(name="default", reuse=ReuseLimits(max_idle_seconds=0.2))
    with Executor(LocalBackend(os.environ, namespaces=False), {"default": template}) as executor:
        executor.start()
        runner = int(executor.run("echo $PPID", isolation="reuse").stdout)
        eventually(lambda: not psutil.pid_exists(runner))
        assert executor.run("true", isolation="reuse").succeeded


async def test_a_call_behind_a_wrong_one_is_refused() -> None:
    """The runner itself refuses another tenant, whatever the service believes; the call has not run."""
    async with caller() as calls:
        await calls.run("a")
        sandbox, claim = await calls.claim("a")
        with pytest.raises(NotTakenError):
            await calls.dispatch(sandbox, Claim(claim.execution_id, "b", claim.plan))
        await sandbox.release()


async def test_one_killed_behind_the_claim_did_not_take_the_call() -> None:
    """A call whose bytes nobody has read is known not to have run."""
    others = set(nurseries())
    async with caller() as calls:
        await calls.run("a")
        below = [process for nursery in set(nurseries()) - others for process in nursery.children(recursive=True)]
        sandbox, claim = await calls.claim("a")
        assert sandbox.start is Start.REUSED
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(below, 60)
        with pytest.raises(NotTakenError):
            await calls.dispatch(sandbox, claim)
        await sandbox.release()
