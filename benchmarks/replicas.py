"""Sends calls to several services in turn that share their pool, and proves that no sandbox served two of them.

python benchmarks/replicas.py http://127.0.0.1:8001 http://127.0.0.1:8002 --calls 2000

Replicas may be killed meanwhile: a call whose replica is gone goes to the next one with the same Idempotency-Key. It
runs once if the replicas share a store.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

import uvloop
from calls import Caller, Kind, Reply, judge
from figures import print_header
from pool import Pool
from report import RESULTS, Record
from weather import Weather
from wire import Client

PATIENCE = 60.0
"""Seconds until a call that no replica takes counts as broken."""


def main() -> int:
    """Return 1 if an answer was wrong or missing, a sandbox was used twice, or the pool does not come back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("urls", nargs="+")
    parser.add_argument("--api-key", default="")
    parser.add_argument("--template", default="default")
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=900, help="no call is sent after that")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the raw figures")
    parser.add_argument("--call-timeout", type=float, default=120.0)
    return uvloop.run(_run(parser.parse_args()))


async def _run(arguments: argparse.Namespace) -> int:
    kind = Kind({"template": arguments.template})
    clients = [Client(url, arguments.api_key) for url in arguments.urls]
    pools = [Pool(client, arguments.template) for client in clients]
    replicas = Replicas([Caller(client, kind, arguments.call_timeout) for client in clients])
    await pools[0].wait_full()
    before, conflicts = Weather.now(0), await _conflicts(pools)
    began = time.perf_counter()
    replies = await _load(replicas, arguments)
    seconds = time.perf_counter() - began
    samples = judge(replies, kind)
    print_header(f"{len(samples)} calls to {len(clients)} replicas, {arguments.at_once} at once, in {seconds:.0f} s")
    record = Record(arguments.results)
    record.add("replicas", samples)
    print(f"moved to another replica: {replicas.moved}; claim conflicts {await _conflicts(pools) - conflicts}")
    print(Weather.now(0).since(before))
    whole = await _comes_back(pools)
    for client in clients:
        client.close()
    return record.close() or int(not whole)


class Replicas:
    """Takes replicas in turn. ``moved``: how often a call went on to another one."""

    def __init__(self, callers: list[Caller]) -> None:
        self._callers = callers
        self.moved = 0

    async def call(self, number: int) -> Reply:
        """Run one call to its end, at whichever replica lives."""
        word, intended = secrets.token_hex(6), time.perf_counter()
        while True:
            caller = self._callers[number % len(self._callers)]
            reply = await caller.call(intended, word, key=word)
            if reply.status not in (0, 503) or time.perf_counter() - intended > PATIENCE:
                return reply
            self.moved += 1
            number += 1
            await asyncio.sleep(0.1)


async def _load(replicas: Replicas, arguments: argparse.Namespace) -> list[Reply]:
    numbers = iter(range(arguments.calls))
    end = time.perf_counter() + arguments.seconds

    async def work() -> list[Reply]:
        replies = []
        while time.perf_counter() < end and (number := next(numbers, None)) is not None:
            replies.append(await replicas.call(number))
        return replies

    return [reply for replies in await asyncio.gather(*(work() for _ in range(arguments.at_once))) for reply in replies]


async def _conflicts(pools: Iterable[Pool]) -> int:
    """Of all replicas that live: each counts its own since it started."""
    total = 0
    for pool in pools:
        with contextlib.suppress(OSError):
            total += (await pool.look()).get("conflicts", 0)
    return total


async def _comes_back(pools: Iterable[Pool]) -> bool:
    """Whether every replica that lives sees the pool at its size within a minute."""
    for number, pool in enumerate(pools):
        try:
            print(f"replica {number}: {dict(await pool.wait_full(60))}")
        except TimeoutError as error:
            print(f"replica {number}: {error}")
            return False
        except OSError as error:
            print(f"replica {number} is gone: {error}")
    return True


if __name__ == "__main__":
    raise SystemExit(main())
