"""W1 to W7: what is sent, and what is said of it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import apiserver
import workloads
from calls import Caller, Kind, Reply, Sample, judge
from figures import milliseconds, print_header
from pool import Pool
from report import Record, print_phases, print_reuse, print_windows
from target import Target
from weather import Weather, wait_quiet
from wire import Client

_WINDOW = 10.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What every workload needs."""

    target: Target
    arguments: argparse.Namespace
    client: Client
    pool: Pool
    record: Record

    def caller(self, kind: Kind) -> Caller:
        """Sends calls of that kind."""
        return Caller(self.client, kind, self.arguments.call_timeout)

    @property
    def kind(self) -> Kind:
        """Calls the pool is for."""
        return Kind({"template": self.arguments.template})

    @property
    def pace(self) -> str:
        """How the calls of W1 and W7 follow each other."""
        if size := self.arguments.batch:
            return f"{size} back to back on a quiet machine, then the pool fills"
        return f"{self.arguments.pause} s between calls"

    async def settled(self) -> None:
        """Wait until the pool is full, nothing is being made, and this machine is quiet."""
        await self.pool.wait_settled()
        await wait_quiet()

    async def serial(self, between: Callable[[], None]) -> list[Reply]:
        """The calls of W1 and W7, with ``between`` as often as calls."""
        arguments, caller = self.arguments, self.caller(self.kind)
        if arguments.batch:
            return await workloads.batches(caller, arguments.calls, arguments.batch, between, self.settled)
        return await workloads.serial(caller, arguments.calls, arguments.pause, between)


async def _warm(bench: Bench) -> None:
    """One call after another, and a bare round trip to a pod after each, or after each batch as many."""
    arguments = bench.arguments
    with contextlib.ExitStack() as stack:
        bare: dict[str, list[float]] = {}
        pod = None
        if bench.target.core is not None and arguments.bare_pod:
            pod = stack.enter_context(apiserver.BarePod(bench.target.core, bench.target.namespace, arguments.image))
            bare = {"bare pod, HTTP over a new connection": [], "bare pod, HTTP over a kept one": []}

        def between() -> None:
            if pod is not None:
                for values, action in zip(bare.values(), (pod.over_new, pod.over_kept), strict=True):
                    values.append(milliseconds(action))

        samples = judge(await bench.serial(between), bench.kind)
    print_header(f"W1 serial, {bench.pace}")
    bench.record.add("W1", samples)
    print_phases([sample for sample in samples if sample.start != "cold"] or samples, bare)


async def _cold(bench: Bench) -> None:
    """Calls that no pool can serve."""
    kind = Kind({**bench.kind.fields, **json.loads(bench.arguments.cold_request)})
    count, pause = bench.arguments.cold_calls, bench.arguments.pause
    samples = judge(await workloads.serial(bench.caller(kind), count, pause, lambda: None), kind)
    print_header(f"W2 cold serial, {pause} s between calls, {bench.arguments.cold_request}")
    bench.record.add("W2", samples)
    print_phases(samples, {})


async def _burst(bench: Bench, name: str, count: int) -> None:
    samples: list[Sample] = []
    for _ in range(bench.arguments.rounds):
        await bench.client.open(count)
        await bench.settled()
        samples += judge(await workloads.burst(bench.caller(bench.kind), count), bench.kind)
    print_header(f"{name} {count} at once on {bench.arguments.pool}, {bench.arguments.rounds} times")
    bench.record.add(name, samples)


async def _fits(bench: Bench) -> None:
    await _burst(bench, "W3", bench.arguments.pool)


async def _five_times(bench: Bench) -> None:
    await _burst(bench, "W4", 5 * bench.arguments.pool)


async def _poisson(bench: Bench) -> None:
    """Arrivals at multiples of the refill rate."""
    arguments, caller = bench.arguments, bench.caller(bench.kind)
    rate = arguments.refill_rate or await bench.pool.refill_rate(caller)
    if not rate:
        raise SystemExit("W5 needs a pool whose refill it can measure, or --refill-rate")
    said = (await bench.pool.look()).get("refill_per_second")
    print(f"\nrefill rate: {rate:.2f} a second (GET /pool says {said})")
    for multiple in arguments.multiples:
        await bench.pool.wait_full()
        rng = random.Random(arguments.seed)  # noqa: S311 - the same arrivals every time
        began = time.perf_counter()
        samples = judge(await workloads.open_loop(caller, multiple * rate, arguments.seconds, rng), bench.kind)
        print_header(f"W5 Poisson, {multiple} x refill = {multiple * rate:.2f} calls/s for {arguments.seconds:.0f} s")
        bench.record.add(f"W5 {multiple}", samples)
        print_windows(samples, began, _WINDOW)


async def _reuse(bench: Bench) -> None:
    """One tenant's calls without a pause; one connection of them leaves a process behind at every call."""
    arguments = bench.arguments
    kind = Kind({**bench.kind.fields, "isolation": "reuse"})
    callers = [bench.caller(kind)] * arguments.connections
    if arguments.litter:
        callers.append(bench.caller(Kind(kind.fields, litters=True)))
    await workloads.closed_loop(callers, 1.0)  # so that the sandboxes are there
    began = time.perf_counter()
    samples = judge(await workloads.closed_loop(callers, arguments.seconds), kind)
    litter = ", and one that leaves a process each time" if arguments.litter else ""
    print_header(f"W6 isolation: reuse, {arguments.connections} connections{litter}")
    bench.record.add("W6", samples)
    print_reuse(samples, max(sample.reply.finished for sample in samples) - began)


async def _costs(bench: Bench) -> None:
    """Writes to the API server, memory of the service."""
    core = bench.target.core
    began, start = time.perf_counter(), Weather.now(bench.target.pid)
    before = None if core is None else apiserver.count_writes(core)
    samples = judge(await bench.serial(lambda: None), bench.kind)
    await bench.pool.wait_full()
    print_header(f"W7 serial, {bench.pace}")
    bench.record.add("W7", samples)
    memory = Weather.now(bench.target.pid).memory - start.memory
    if bench.target.pid:
        print(f"memory of the service: {start.memory / 2**20:.1f} MiB before, {memory / 1024:+.0f} KiB after", end=" ")
        print(f"{len(samples)} calls, {memory / 1024 / len(samples) * 1000:+.0f} KiB per 1,000 at that pace")
    if before is not None:
        await _print_writes(core, before, len(samples), time.perf_counter() - began)


async def _print_writes(core: Any, before: Any, calls: int, seconds: float) -> None:
    """Subtract what the cluster writes without calls; at most a minute of it is watched."""
    await asyncio.sleep(2)  # kubelet and controllers finish with the last pods
    during = apiserver.count_writes(core) - before
    watched = min(60.0, seconds)
    before = apiserver.count_writes(core)
    await asyncio.sleep(watched)
    idle = apiserver.count_writes(core) - before
    apiserver.print_writes(calls, during, {what: count * (seconds + 2) / watched for what, count in idle.items()})


WORKLOADS: dict[str, Callable[[Bench], Awaitable[None]]] = {
    "W1": _warm,
    "W2": _cold,
    "W3": _fits,
    "W4": _five_times,
    "W5": _poisson,
    "W6": _reuse,
    "W7": _costs,
}
