"""An agent's tool calls: made as many agents make them, by one that tries to cure that, and through executor-api.

python benchmarks/agents.py naive|worker|isolated SCALE PORT FOLDER: for each line of its standard input it makes its
calls, and tells of them in a line of JSON.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Self

from executor_api import Executor

THREADS = 30
TIMEOUT_SECONDS = 2.0
TIMED_OUT, DONE, STARTED = "timed out", "done", "started"

_PIDS, _DESCRIPTORS = 32_768, 65_535
"""What the machine of the incident had."""
_CHILDREN, _CONNECTIONS = 8, 100
"""Of one call that builds, and of one that asks a server."""
_BUILD = f"(for n in $(seq {_CHILDREN}); do sleep 900 & done) & wait; exec sleep 900"
_STUCK = f"""(mkfifo f$$; exec {sys.executable} -S -c '
import os, sys
os.posix_spawn("/bin/true", ["true"], dict(), file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])
' f$$) & wait"""
"""Its child waits in an open that nobody answers, between vfork and exec; it waits for the child, in D state."""
_ASK = """
import socket
def ask():
    connection = socket.create_connection(("127.0.0.1", {port}))
    connection.recv(1)  # the server hangs up; the code does not
    return connection
globals().setdefault("connections", []).extend([ask() for _ in range({number})])
"""


class Call(NamedTuple):
    """One tool call. ``python``: the command is code for an interpreter that goes on; else it is a shell's."""

    command: str
    wanted: str
    python: bool = False


class Load(NamedTuple):
    """What the agents do at 1:``scale``, in this order. What that comes to is told by names of figures."""

    stuck: list[Call]
    builds: list[Call]
    jobs: list[Call]
    worker_jobs: list[Call]
    questions: list[Call]

    @classmethod
    def of(cls, scale: float, port: int) -> Self:
        """Calls that ask the server at ``port``; at 1:10 with as many zombies as the incident had."""
        return cls(
            stuck=[Call(_STUCK, TIMED_OUT)] * _part(200, scale),
            builds=[Call(_BUILD, TIMED_OUT)] * _part(3_280, scale),
            jobs=[Call("true", STARTED)] * _part(3_000, scale),
            worker_jobs=[Call("true", STARTED)] * (_part(1_000, scale) + 1),
            questions=[Call(_ASK.format(port=port, number=_CONNECTIONS), DONE, python=True)] * _part(630, scale),
        )

    def made(self) -> dict[str, int]:
        """What is left on the machine when agents that clean up nothing have made these calls."""
        stuck, orphans = len(self.stuck), len(self.builds) * _CHILDREN
        zombies = len(self.jobs) + len(self.worker_jobs) - 1
        return {
            "processes": 2 + orphans + 2 * stuck + zombies,
            "zombies": zombies,
            "d_state": stuck,
            "orphans": orphans + stuck,
            "close_wait": len(self.questions) * _CONNECTIONS,
        }


def most_tasks(scale: float) -> int:
    """The limit of the small machine; threads don't become fewer with its scale."""
    return _part(_PIDS, scale) + 2 * THREADS


def main() -> None:
    """Be the agent that the arguments name."""
    kind, scale, port = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    load = Load.of(scale, port)
    os.chdir(sys.argv[4])
    os.setsid()  # as whoever starts services does
    resource.setrlimit(resource.RLIMIT_NOFILE, (_part(_DESCRIPTORS, scale),) * 2)
    with AGENTS[kind](load) as make_calls:
        _tell(pid=os.getpid())
        for _ in sys.stdin:
            _tell(endings=make_calls())
    os._exit(0)  # what a naive one has left would hold up an orderly end


Endings = dict[str, int]


@contextlib.contextmanager
def naive(load: Load) -> Iterator[Callable[[], Endings]]:
    """Timeouts end the shell only, jobs are never waited for, connections are kept by the session of a tool."""
    _be_called("naive-agent")
    jobs: list[subprocess.Popen[bytes]] = []
    session: dict[str, Any] = {}

    def make(call: Call) -> str:
        if call.python:
            exec(call.command, session)  # noqa: S102 - what is shown
            return DONE
        if call.wanted == STARTED:
            jobs.append(subprocess.Popen(call.command, shell=True))  # noqa: S602 - what is shown
            return STARTED
        try:
            subprocess.run(call.command, shell=True, timeout=TIMEOUT_SECONDS, capture_output=True, check=False)  # noqa: S602
        except subprocess.TimeoutExpired:
            return TIMED_OUT
        return DONE

    yield lambda: _in_threads(make, [load.stuck, load.builds, load.jobs, load.questions])


@contextlib.contextmanager
def worker(load: Load) -> Iterator[Callable[[], Endings]]:
    """Has a handler that collects one child a signal; of jobs that end while it is busy, it hears of one."""
    _be_called("agent-worker")
    kept: list[subprocess.Popen[bytes]] = []

    def collect_one(*_: object) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)

    signal.signal(signal.SIGCHLD, collect_one)

    def make() -> Endings:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        jobs = [subprocess.Popen(call.command, shell=True) for call in load.worker_jobs]  # noqa: S602 - what is shown
        kept.extend(jobs)
        for job in jobs:
            os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOWAIT)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        return {STARTED: len(jobs)}

    yield make


@contextlib.contextmanager
def isolated(load: Load) -> Iterator[Callable[[], Endings]]:
    """The calls of both, each in a sandbox of its own."""
    _be_called("calm-agent")
    with Executor.local() as executor:

        def make(call: Call) -> str:
            what: dict[str, Any] = {"code" if call.python else "command": call.command}
            result = executor.run(timeout=TIMEOUT_SECONDS if call.wanted == TIMED_OUT else 60.0, **what)
            if call.wanted == STARTED and result.succeeded:
                return STARTED
            return TIMED_OUT if result.reason == "timeout" else DONE if result.succeeded else result.message

        _in_threads(make, [[Call("true", DONE)] * THREADS])
        yield lambda: _in_threads(make, list(load))


AGENTS = {"naive": naive, "worker": worker, "isolated": isolated}


def _in_threads(make: Callable[[Call], str], parts: list[list[Call]]) -> Endings:
    """Make the calls part by part; how many ended how, ``wrong`` before what they should not."""
    endings: collections.Counter[str] = collections.Counter()
    with ThreadPoolExecutor(THREADS) as pool:
        for calls in parts:
            for call, ending in zip(calls, pool.map(make, calls), strict=True):
                endings[ending if ending == call.wanted else f"wrong: {ending}"] += 1
    return endings


def _be_called(name: str) -> None:
    with open("/proc/self/comm", "w") as file:  # noqa: PTH123 - it can't be replaced, only written
        file.write(name)


def _tell(**words: object) -> None:
    print(json.dumps(words), flush=True)


def _part(number: int, scale: float) -> int:
    return max(1, round(number / scale))


if __name__ == "__main__":
    main()
