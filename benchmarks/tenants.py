"""Does one tenant's flood delay another's calls? Both on one service of this machine, with limits for the flooding one.

The calm tenant's calls come at the same random instants while the other one sends nothing, its share, and ten times
its share; these take turns, and then again. There are two floods: quick calls beyond the tenant's rate, and calls that
sleep beyond its concurrency and its queue.

PYTHONPATH=tests python benchmarks/tenants.py
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import itertools
import random
import statistics
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
import workloads
from calls import Caller, Kind, Reply, Sample, Sleepy, Verdict, judge
from figures import percentile, print_header, print_row
from report import RESULTS, Record
from support.service import Service
from support.tenants import secret_of, write_keys
from weather import Weather, wait_quiet
from wire import Client

CALM, FLOOD = "calm", "flood"
SLOTS, PARALLEL, WAITING = 8, 2, 4
"""Slots of the service; of them and of the queue, the flooding tenant's."""
SLEEP = 0.5
NOTHING, SHARE, TENFOLD = "nothing", "its share", "ten times its share"
CONDITIONS = {NOTHING: 0, SHARE: 1, TENFOLD: 10}
MOST = 1.2
"""What a flood may make of the p95 that the calm tenant has beside the other's share."""
WARMUP = 5
_TIMEOUT = 60.0

Windows = dict[str, list[list[Sample]]]
"""By condition, one for each time that it came."""


@dataclass(frozen=True, slots=True)
class Flood:
    """What the flooding tenant sends: calls of one kind, of which so many a second are its share. Its limits."""

    name: str
    kind: Kind
    share: float
    limits: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What became of the calls of both."""

    calm: Windows = field(default_factory=lambda: collections.defaultdict(list))
    flood: Windows = field(default_factory=lambda: collections.defaultdict(list))


def main() -> int:
    """Return 1 if a flood moved the calm tenant's p95 by more than a fifth, or an answer was wrong."""
    arguments = _arguments()
    record = Record(arguments.results)
    bounds = f"max_concurrency: {PARALLEL}, max_queue: {WAITING}"
    floods = (
        Flood("quick", Kind(), arguments.share, f"rate: {arguments.share}, {bounds}"),
        Flood("sleeping", Sleepy(seconds=SLEEP), PARALLEL / SLEEP, bounds),
    )
    unmoved = [_measure(flood, arguments, record) for flood in floods]
    return record.close() or (0 if all(unmoved) else 1)


def _measure(flood: Flood, arguments: argparse.Namespace, record: Record) -> bool:
    """One flood against a service of its own; whether the calm tenant's calls took what they take beside the share."""
    with tempfile.TemporaryDirectory() as folder:
        keys = write_keys(Path(folder) / "keys.yaml", CALM, FLOOD)
        limits = Path(folder) / "tenants.yaml"
        limits.write_text(f"tenants: {{{FLOOD}: {{{flood.limits}}}}}\n")
        flags = ("--api-keys", keys, "--tenants", str(limits), "--max-concurrency", str(SLOTS))
        with Service(Path(folder) / "data", *flags) as service:
            print_header(f"{flood.name} calls of a tenant with {flood.limits}: its share is {flood.share:g} a second")
            before = Weather.now(service.process.pid)
            heard = uvloop.run(_rounds(service.url, flood, arguments))
            weather = Weather.now(service.process.pid).since(before)
    for name, found in heard.calm.items():
        print_row(f"calm, while the other sends {name}", _walls(itertools.chain(*found)))
    print(weather)
    for tenant, windows in ((FLOOD, heard.flood), (CALM, heard.calm)):
        for name, found in windows.items():
            print(f"\nthe {tenant} tenant, while the flooding one sends {name}")
            record.add(f"{flood.name}, {tenant}, {name}", list(itertools.chain(*found)))
    return _verdict(heard.calm)


async def _rounds(url: str, flood: Flood, arguments: argparse.Namespace) -> Heard:
    """All conditions, in another order each time."""
    heard, names = Heard(), collections.deque(CONDITIONS)
    clients = Client(url, secret_of(CALM)), Client(url, secret_of(FLOOD))
    calm, other = Caller(clients[0], Kind(), _TIMEOUT), Caller(clients[1], flood.kind, _TIMEOUT)
    await workloads.serial(calm, WARMUP, 0.1, lambda: None)
    for number in range(arguments.rounds):
        for name in names:
            await wait_quiet()
            load = [_arrivals(calm, arguments.rate, arguments.seconds, number)]
            if CONDITIONS[name]:
                load.append(_arrivals(other, CONDITIONS[name] * flood.share, arguments.seconds, ~number))
            replies = await asyncio.gather(*load)
            heard.calm[name].append(judge(replies[0], Kind()))
            if len(replies) > 1:
                heard.flood[name].append(judge(replies[1], flood.kind))
        names.rotate()
    for client in clients:
        client.close()
    return heard


async def _arrivals(caller: Caller, rate: float, seconds: float, seed: int) -> list[Reply]:
    return await workloads.open_loop(caller, rate, seconds, random.Random(seed))  # noqa: S311 - arrivals, no secret


def _verdict(calm: Windows) -> bool:
    """By the median of all windows: what else a machine does spoils few of them."""
    p95 = {name: [percentile(_walls(window), 95) for window in calm[name]] for name in CONDITIONS}
    for name, values in p95.items():
        print(f"p95 of each window beside {name}: {' '.join(f'{value:.1f}' for value in values)} ms")
    nothing, share, tenfold = (statistics.median(values) for values in p95.values())
    print(f"their median beside the flood: {tenfold / share:.2f} times that beside the share", end=" ")
    print(f"({MOST} at most will do), {tenfold / nothing:.2f} times that beside nothing")
    return tenfold <= MOST * share


def _walls(samples: Iterable[Sample]) -> list[float]:
    return [sample.wall for sample in samples if sample.verdict is Verdict.RIGHT]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rate", type=float, default=10.0, help="the calm tenant's calls a second")
    add("--share", type=float, default=5.0, help="quick calls a second that the flooding tenant may make")
    add("--seconds", type=float, default=10.0, help="how long each condition lasts, each time")
    add("--rounds", type=int, default=6, help="how often each condition comes")
    add("--results", type=Path, default=RESULTS, help="folder of the raw figures")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
