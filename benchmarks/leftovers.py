"""Runs thousands of calls, a quarter of them hostile, and counts what is left of them.

make soak                               # 10,000 calls on this machine
KUBECONFIG=... make soak-cluster        # 300 calls on a cluster
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
from endings.rows import ROWS, TEMPLATES
from support.service import Service

HOSTILE = (
    "uncaught exception",
    "SIGSEGV",
    "self-SIGKILL",
    "timeout, sleeper",
    "timeout, ignores SIGTERM",
    "memory over the limit, fast",
    "fork bomb",
    "double-forked setsid daemon",
    "background process holds stdout",
    "child closes stdout",
    "a 5 MB line",
    "invalid UTF-8",
    "descriptor hog",
    "process in D state",
    "attack: kill the runner",
    "attack: forged frames",
)
KEPT_SECONDS = 65.0
"""By then every sandbox that waits for another call of its tenant has left (60 s, see docs/pool.md)."""
BENIGN: tuple[dict[str, Any], ...] = ({"code": "print('before')"}, {"command": "echo before"})


def main() -> int:
    """Return 0 if nothing is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("local", "kubernetes"), default="local")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--reuse", type=float, default=0.0, help="share of calls with isolation: reuse, 0 to 1")
    parser.add_argument("--pool", type=int, default=0, help="sandboxes that wait on the cluster")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--image", default="localhost/executor:dev")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        templates = Path(folder) / "templates.yaml"
        templates.write_text(TEMPLATES)
        return _measure(arguments, Path(folder), ("--templates", str(templates)))


def _measure(arguments: argparse.Namespace, folder: Path, flags: tuple[str, ...]) -> int:
    if arguments.backend == "local":
        with Service(folder, *flags) as service:
            return _soak(service, arguments, lambda: 0)
    from support.cluster import namespace

    with namespace() as space:
        flags += ("--backend", "kubernetes", "--namespace", space.name, "--image", arguments.image)
        if arguments.pool:
            flags += ("--pool", str(arguments.pool))
        with Service(folder, *flags) as service:
            failed = _soak(service, arguments, lambda: len(space.pods()))
            deadline = time.monotonic() + 180  # reused ones wait a minute for another call
            while (left := max(len(space.jobs()), len(space.pods()))) != arguments.pool and time.monotonic() < deadline:
                time.sleep(0.5)
            print(
                f"left on the cluster: {len(space.jobs())} Jobs, {len(space.pods())} pods; {arguments.pool} should be"
            )
            return failed or int(left != arguments.pool)


def _soak(service: Service, arguments: argparse.Namespace, pods: Callable[[], int]) -> int:
    plan = _plan(arguments)
    asyncio.run(_run(service.url, plan[: arguments.at_once * 4], arguments.at_once))  # warm up
    before = _at_rest(service, arguments, pods)
    began, samples = time.monotonic(), [before]
    endings: collections.Counter[str] = collections.Counter()
    for start in range(0, len(plan), max(1, len(plan) // 10)):
        endings += asyncio.run(_run(service.url, plan[start : start + max(1, len(plan) // 10)], arguments.at_once))
        samples.append(_state(service, pods))
    seconds = time.monotonic() - began
    after = _settled(service, before, _at_rest(service, arguments, pods), pods)
    print(f"{arguments.calls} calls in {seconds:.0f} s: {dict(endings.most_common())}")
    print(f"{'':10}{'zombies':>9}{'processes':>11}{'threads':>9}{'descriptors':>13}{'memory MiB':>12}{'pods':>6}")
    for name, state in (
        ("before", before),
        *((f"{10 * n} %", s) for n, s in enumerate(samples[1:], 1)),
        ("after", after),
    ):
        memory = state["memory"] / 2**20
        counts = f"{state['zombies']:9}{state['processes']:11}{state['threads']:9}{state['descriptors']:13}"
        print(f"{name:10}{counts}{memory:12.1f}{state['pods']:6}")
    growth = (after["memory"] - samples[len(samples) // 2]["memory"]) / (arguments.calls / 2)
    print(f"memory growth over the second half: {growth:.0f} bytes a call")
    left = (
        after["zombies"] or after["processes"] > before["processes"] or after["descriptors"] > before["descriptors"] + 2
    )
    print("something is left" if left else "nothing is left")
    return 1 if left else 0


def _plan(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    rows = {row.name: row for row in ROWS}
    rng = random.Random(arguments.seed)  # noqa: S311 - the same calls every time
    plan = [
        (rows[rng.choice(HOSTILE)].request if number % 4 == 0 else rng.choice(BENIGN))
        for number in range(arguments.calls)
    ]
    return [request | {"isolation": "reuse"} if rng.random() < arguments.reuse else request for request in plan]


async def _run(url: str, requests: list[dict[str, Any]], at_once: int) -> collections.Counter[str]:
    endings: collections.Counter[str] = collections.Counter()
    queue = collections.deque(requests)
    async with httpx.AsyncClient(base_url=url, timeout=300) as client:

        async def worker() -> None:
            while queue:
                answer = await client.post("/execute", json=queue.popleft())
                if answer.status_code != httpx.codes.OK:
                    raise SystemExit(f"no result: {answer.status_code} {answer.text}")
                found = answer.json()
                endings[found["reason"] or found["status"]] += 1

        await asyncio.gather(*(worker() for _ in range(at_once)))
    return endings


def _state(service: Service, pods: Callable[[], int]) -> dict[str, int]:
    """The service and every process below it, and its pods."""
    process = psutil.Process(service.process.pid)
    below = process.children(recursive=True)
    return {
        "zombies": sum(_status(child) == psutil.STATUS_ZOMBIE for child in below),
        "processes": len(below),
        "threads": process.num_threads(),
        "descriptors": process.num_fds(),
        "memory": process.memory_info().rss,
        "pods": pods(),
    }


def _at_rest(service: Service, arguments: argparse.Namespace, pods: Callable[[], int]) -> dict[str, int]:
    """The state once no sandbox waits for another call of its tenant."""
    if arguments.reuse:
        time.sleep(KEPT_SECONDS)
    return _state(service, pods)


def _settled(
    service: Service, before: dict[str, int], state: dict[str, int], pods: Callable[[], int]
) -> dict[str, int]:
    """The state once replacements have been made; at most 10 s later."""
    deadline = time.monotonic() + 10
    while (state["processes"] > before["processes"] or state["zombies"]) and time.monotonic() < deadline:
        time.sleep(0.1)
        state = _state(service, pods)
    return state


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return ""


if __name__ == "__main__":
    raise SystemExit(main())
