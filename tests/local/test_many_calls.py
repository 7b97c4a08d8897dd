"""Thousands of calls from many threads: each gets its own answer, and nothing adds up."""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from support.machine import eventually, nurseries

from executor_api import Executor


def test_thirty_threads_get_their_own_answers(executor: Executor) -> None:
    """One executor serves all threads at once, and none gets another's output or value."""

    def call(number: int) -> bool:
        if number % 2:
            return executor.run(f"echo {number}; echo {-number} >&2").stdout == f"{number}\n"
        return bool(executor.run(code="def f(x): return x * x", function="f", args=[number]).value == number * number)

    with ThreadPoolExecutor(30) as pool:
        assert all(pool.map(call, range(300)))


def test_nothing_adds_up(executor: Executor) -> None:
    """After hundreds of calls: no zombie, no descriptor and no folder more than before, here and in the nurseries."""
    commands = ("true", "touch a; mkdir b; touch b/c", "sleep 600 & setsid sleep 600 &", "kill -9 $$")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(executor.run, commands * 3))
        before = steady()
        list(pool.map(executor.run, commands * 50))
    assert before["zombies"] == 0
    eventually(lambda: steady() == before)


def steady() -> dict[str, object]:
    """What could add up, once replacements have been made: as many sandboxes wait before as after."""
    seen: list[dict[str, object]] = []
    eventually(lambda: seen.append(state()) or (len(seen) >= 50 and all(found == seen[-1] for found in seen[-50:])))
    return seen[-1]


def state() -> dict[str, object]:
    """Of this process and all below it, as they are just now."""
    own = psutil.Process()
    with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
        below = own.children(recursive=True)
        outer = nurseries()
        inner = [child for nursery in outer for child in nursery.children()]
        return {
            "descriptors": [own.num_fds(), sum(process.num_fds() for process in outer + inner)],
            "processes": len(below),
            "zombies": sum(child.status() == psutil.STATUS_ZOMBIE for child in below),
            "folders": [len(list(Path(json.loads(nursery.cmdline()[-1])["root"]).iterdir())) for nursery in outer],
        }
    return {}
