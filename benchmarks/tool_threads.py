"""A tool that runs shell commands under a pool of 30 threads: subprocess.run beside Executor.local(), in turns.

The latter with a sandbox for each call, and with ``isolation="reuse"``.

make bench-threads
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, NamedTuple, Self

import psutil
from figures import print_title
from support.subreaper import end_descendants

from executor_api import Executor
from executor_runner.linux import become_subreaper

NAIVE, SINGLE_USE, REUSE = "subprocess.run", "Executor.local()", "with reuse"
TOOLS = (NAIVE, SINGLE_USE, REUSE)
THREADS, ROUNDS, WARM_UP = 30, 10, 60
PAUSE_SECONDS = 1.0
"""From the last answer to a look: what ended just then is collected by whoever does collect."""
SETTLE_SECONDS = 20.0
TIMED_OUT = "timed out"
_SLEEP = "sleep 900"
_HIDDEN = ">/dev/null 2>&1"
"""A background process that is to live on in both tools must not hold the pipe, or it alone times the call out."""

Shell = Callable[[str, float], str]
"""Runs a command within seconds; what it printed, or `TIMED_OUT`."""


class State(NamedTuple):
    """An agent and everything below it. ``descriptors`` are summed up."""

    zombies: int
    processes: int
    descriptors: int

    @classmethod
    def of(cls, agent: psutil.Process) -> Self:
        """As it is just now."""
        below = agent.children(recursive=True)
        found = [look for process in below if (look := _look(process))]
        zombies = sum(status == psutil.STATUS_ZOMBIE for status, _ in found)
        return cls(zombies, len(found) - zombies, agent.num_fds() + sum(descriptors for _, descriptors in found))


class Agent:
    """A process that makes calls, and adopts orphans as the first process of a container does."""

    def __init__(self, tool: str, process: subprocess.Popen[str]) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the agent is spoken to by pipes")
        self.tool = tool
        self.states: list[State] = []
        self.endings: collections.Counter[str] = collections.Counter()
        self.seconds = 0.0
        self._orders: IO[str] = process.stdin
        self._answers: IO[str] = process.stdout
        self._process = psutil.Process(process.pid)

    def call(self, number: int) -> None:
        """Make so many calls, wait a second, then look."""
        self._orders.write(f"{number}\n")
        self._orders.flush()
        answer = json.loads(self._answers.readline())
        self.endings.update(answer["endings"])
        self.seconds += answer["seconds"]
        time.sleep(PAUSE_SECONDS)
        self.states.append(State.of(self._process))

    def at_rest(self) -> State:
        """Its state once it has not changed for a second; after a while, whatever it is."""
        deadline = time.monotonic() + SETTLE_SECONDS
        seen = [State.of(self._process)]
        while len(seen) < 10 or len(set(seen[-10:])) > 1:
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
            seen.append(State.of(self._process))
        return seen[-1]

    def is_more(self, state: State) -> bool:
        """Whether anything is left that was not there before."""
        return any(now > before for now, before in zip(state, self.states[0], strict=True))

    def end(self) -> int:
        """Have it end what its calls left; how many processes that were. Raises if one is still there."""
        left = self._process.children(recursive=True)
        self._orders.close()
        ended = int(self._answers.readline())
        if alive := [process for process in left if process.is_running()]:
            raise SystemExit(f"could not clean up after {self.tool}: {alive}")
        return ended


def main() -> int:
    """Return 1 if Executor.local() has left anything, or an answer of it is wrong, in either way."""
    arguments = _arguments()
    if arguments.agent:
        _be_agent(arguments.agent)
        return 0
    with contextlib.ExitStack() as stack:
        agents = [stack.enter_context(_agent(tool)) for tool in TOOLS]
        for agent in agents:
            agent.call(WARM_UP)
            agent.states = [agent.at_rest()]
            agent.endings.clear()
            agent.seconds = 0.0
        for number in _parts(arguments.calls):
            for agent in agents:
                agent.call(number)
        after = [agent.at_rest() for agent in agents]
        _print_states(agents, after)
        for agent in agents:
            print(f"{agent.tool}: {agent.endings.total() / agent.seconds:.0f} calls/s, {dict(agent.endings)}, ", end="")
            print(f"{agent.end()} processes to clean up after it")
    bad = [_is_bad(agent, state) for agent, state in zip(agents[1:], after[1:], strict=True)]
    return int(any(bad))


def _is_bad(agent: Agent, after: State) -> bool:
    """Whether anything is left of it, which is told, or it answered wrongly."""
    left = bool(after.zombies) or agent.is_more(after)
    print(f"{agent.tool}: {'something' if left else 'nothing'} is left")
    return left or any(ending.startswith("wrong") for ending in agent.endings)


def _parts(calls: int) -> list[int]:
    return [calls * (n + 1) // ROUNDS - calls * n // ROUNDS for n in range(ROUNDS)]


def _print_states(agents: list[Agent], after: list[State]) -> None:
    print_title(f"{THREADS} threads; zombies, processes and descriptors of the agent and all below it")
    print(f"{'':8}" + "".join(f"{agent.tool:>39}" for agent in agents))
    print(f"{'':8}" + "".join(f"{name:>13}" for name in State._fields) * len(agents))
    names = ["before", *(f"{100 * n // ROUNDS} %" for n in range(1, ROUNDS + 1)), "after"]
    rows = zip(*(agent.states for agent in agents), strict=True)
    for name, states in zip(names, [*rows, tuple(after)], strict=True):
        print(f"{name:8}" + "".join(f"{value:13}" for state in states for value in state))


def _look(process: psutil.Process) -> tuple[str, int] | None:
    """Status and open descriptors; None if it has gone."""
    try:
        status = str(process.status())
        return status, 0 if status == psutil.STATUS_ZOMBIE else process.num_fds()
    except psutil.NoSuchProcess:
        return None


@contextlib.contextmanager
def _agent(tool: str) -> Iterator[Agent]:
    command = [sys.executable, __file__, "--agent", tool]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Agent(tool, process)


def _be_agent(tool: str) -> None:
    """Make as many calls as each line of standard input says, until it ends; then end what they left."""
    become_subreaper()
    numbers = itertools.count(1)
    try:
        with contextlib.ExitStack() as stack:
            shell = _naive
            if tool != NAIVE:
                shell = _isolated(stack.enter_context(Executor.local()), "reuse" if tool == REUSE else "single_use")
            pool = stack.enter_context(ThreadPoolExecutor(THREADS))
            list(pool.map(shell, ["sleep 2"] * THREADS, [60.0] * THREADS))  # what is kept for so many is there
            for line in sys.stdin:
                began = time.monotonic()
                calls = list(itertools.islice(numbers, int(line)))
                endings = collections.Counter(pool.map(lambda number: _ending(shell, number), calls))
                print(json.dumps({"endings": endings, "seconds": time.monotonic() - began}), flush=True)
    finally:
        ended = end_descendants()
        print(ended, flush=True)


def _ending(shell: Shell, number: int) -> str:
    """What kind of call it was, if it was answered rightly."""
    command, timeout, kind = f"echo {number}", 60.0, "plain"
    if number % 20 == 0:
        command, timeout, kind = f"{_SLEEP} & {_SLEEP}", 1.0, TIMED_OUT
    elif number % 20 == 10:
        command, kind = f"{_SLEEP} {_HIDDEN} & {command}", "leaves a process"
    elif number % 20 == 5:
        command, kind = f"sleep 0.2 {_HIDDEN} & {command}", "leaves one that ends"
    answer = shell(command, timeout)
    wanted = TIMED_OUT if kind == TIMED_OUT else f"{number}\n"
    return kind if answer == wanted else f"wrong: {kind}"


def _naive(command: str, timeout: float) -> str:
    try:
        done = subprocess.run(command, shell=True, timeout=timeout, capture_output=True, text=True, check=False)  # noqa: S602 - what is shown
    except subprocess.TimeoutExpired:
        return TIMED_OUT
    return done.stdout


def _isolated(executor: Executor, isolation: str) -> Shell:
    def shell(command: str, timeout: float) -> str:
        result = executor.run(command, timeout=timeout, isolation=isolation)
        return TIMED_OUT if result.reason == "timeout" else result.stdout

    return shell


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000, help="calls of each")
    parser.add_argument("--agent", choices=TOOLS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
