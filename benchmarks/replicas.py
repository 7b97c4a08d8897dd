"""Sends calls to several services in turn that share their pool, and proves that no sandbox served two of them.

python benchmarks/replicas.py http://127.0.0.1:8001 http://127.0.0.1:8002 --calls 2000     # services that run
KUBECONFIG=... make bench-replicas                                                         # services that it starts

Replicas may be killed meanwhile: a call whose replica is gone goes to the next one with the same Idempotency-Key. It
runs once if the replicas share a store.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import proofs
import uvloop
from calls import Kind, Reply, judge
from figures import print_header
from report import RESULTS, Record
from rotation import Replica, Rotation
from succession import Succeeding, complaints, marks, print_successions
from weather import Weather

if TYPE_CHECKING:
    from fleet import Fleet  # needs the tests' helpers, and only replicas that we start need it


def main() -> int:
    """Return 1 if an answer was wrong or missing, a sandbox was used twice, or the pool does not come back."""
    arguments = _arguments()
    if arguments.urls:
        return uvloop.run(_run(arguments, arguments.urls, None))
    from fleet import fleet

    with fleet(arguments) as started:
        return uvloop.run(_run(arguments, [service.url for service in started.services], started))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("urls", nargs="*", help="services that run")
    add("--start", type=int, default=0, help="start so many on the cluster of KUBECONFIG, with a PostgreSQL server")
    add("--kill-leader", type=int, default=0, help="with --start: SIGKILL the leader so often, at even distances")
    add("--pool", type=int, default=40, help="with --start: sandboxes that wait")
    add("--cpu-request", default="20m", help="with --start: what a sandbox reserves; it may use a whole core")
    add("--memory", default="128Mi", help="with --start: what a sandbox reserves and may use")
    add("--image", default="localhost/executor:dev", help="with --start")
    add("--api-key", default="")
    add("--template", default="default")
    add("--calls", type=int, default=2000)
    add("--at-once", type=int, default=8)
    add("--seconds", type=float, default=1800, help="no call is sent after that, and the run has failed")
    add("--results", type=Path, default=RESULTS, help="folder of the raw figures")
    add("--call-timeout", type=float, default=120.0)
    arguments = parser.parse_args()
    if bool(arguments.urls) == bool(arguments.start):
        parser.error("name services that run, or --start some")
    if arguments.kill_leader and arguments.start < 2:
        parser.error("--kill-leader needs --start 2 or more")
    return arguments


async def _run(arguments: argparse.Namespace, urls: list[str], fleet: Fleet | None) -> int:
    kind = Kind({"template": arguments.template})

    def enroll(url: str) -> Replica:
        return Replica(url, arguments.api_key, kind, arguments.call_timeout)

    rotation = Rotation([enroll(url) for url in urls])
    succeeding = Succeeding(fleet, rotation, enroll) if fleet is not None else None
    await rotation.replicas[0].pool.wait_full()
    jobs = fleet.jobs.seen() if fleet is not None else set()
    before, began = Weather.now(0), time.perf_counter()
    counting = asyncio.create_task(rotation.watch_counters())
    replies, problems = await _load(rotation, arguments, succeeding)
    counting.cancel()
    samples = judge(replies, kind)
    seconds = max((reply.finished for reply in replies), default=began) - began
    print_header(f"{len(samples)} calls to {len(urls)} replicas, {arguments.at_once} at once, in {seconds:.0f} s")
    record = Record(arguments.results)
    record.add("replicas", samples)
    print(Weather.now(0).since(before))
    if len(samples) < arguments.calls:
        problems.append(f"{len(samples)} calls were sent in {arguments.seconds:.0f} s, not {arguments.calls}")
    if fleet is not None and succeeding is not None:
        print_successions(succeeding.seen, arguments.calls)
        problems += complaints(succeeding.seen, arguments.kill_leader, arguments.calls)
        problems += proofs.evidence(samples)
        problems += await proofs.records(rotation.replicas[0].client, samples)
        problems += await proofs.cluster(fleet, arguments.pool)
        proofs.print_jobs(fleet, jobs, samples)
    problems += await proofs.pools(rotation.replicas, arguments.pool if fleet else None)
    rotation.print_counted()
    rotation.close()
    failed = bool(record.close() or problems)
    for problem in problems:
        print(f"wrong: {problem}")
    if failed and fleet is not None:
        logs = arguments.results / f"replicas-{os.getpid()}"
        fleet.keep_logs(logs)
        print(f"logs of the replicas: {logs}")
    return int(failed)


async def _load(
    rotation: Rotation, arguments: argparse.Namespace, succeeding: Succeeding | None
) -> tuple[list[Reply], list[str]]:
    """Send the calls, and kill leaders meanwhile; what became of the calls, and what went wrong with the killing."""
    numbers, end = iter(range(arguments.calls)), time.perf_counter() + arguments.seconds
    fatal = marks(arguments.calls, arguments.kill_leader)
    kills: list[asyncio.Task[None]] = []

    async def work() -> list[Reply]:
        replies = []
        while time.perf_counter() < end and (number := next(numbers, None)) is not None:
            if succeeding is not None and number in fatal:
                kills.append(asyncio.create_task(succeeding.kill_leader()))
            replies.append(await rotation.call(number))
        return replies

    replies = await asyncio.gather(*(work() for _ in range(arguments.at_once)))
    ends = await asyncio.gather(*kills, return_exceptions=True)
    return [reply for some in replies for reply in some], [f"a succession: {error!r}" for error in ends if error]


if __name__ == "__main__":
    raise SystemExit(main())
