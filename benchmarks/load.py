"""Loads a service and says how it did: percentiles by nearest rank, raw figures kept, every answer checked.

W1 one call after another   W2 the same, cold   W3 a burst that fits the pool   W4 a burst five times the pool
W5 Poisson arrivals at multiples of the refill rate   W6 one tenant's calls that share sandboxes
W7 writes to the API server and memory of the service per call

python benchmarks/load.py W1 W3 --url http://127.0.0.1:8000        # a service that runs
PYTHONPATH=tests python benchmarks/load.py W1                      # one that it starts on this machine
KUBECONFIG=... make bench-pool                                     # W1 to W5 and W7 on a cluster
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import apiserver
import uvloop
import workloads
from calls import Verdict, judge
from pool import Pool
from report import RESULTS, Record
from scenes import WORKLOADS, Bench
from target import Target, target
from weather import Weather
from wire import Client

WARMUP = 5
"""Calls before the first workload that count for nothing."""


def main() -> int:
    """Return 1 if an answer was wrong, or a sandbox for one call was used twice."""
    arguments = _arguments()
    with target(arguments) as service:
        return uvloop.run(_run(service, arguments))


async def _run(target: Target, arguments: argparse.Namespace) -> int:
    client = Client(target.url, arguments.api_key)
    bench = Bench(target, arguments, client, Pool(client, arguments.template), Record(arguments.results))
    try:
        await bench.pool.wait_full()
        for sample in judge(await workloads.serial(bench.caller(bench.kind), WARMUP, 0.1, lambda: None), bench.kind):
            if sample.verdict is not Verdict.RIGHT:
                raise SystemExit(f"the service does not serve: {sample.problem}")
        print(f"{WARMUP} calls first that count for nothing; connections are kept and made before a burst")
        for name in arguments.workloads:
            await _play(bench, name)
    finally:
        failed = bench.record.close()  # what was measured is kept, whatever ended the run
        client.close()
    return failed


async def _play(bench: Bench, name: str) -> None:
    """One workload, and what it did to machine, pool and cluster."""
    status, core, pid = await bench.pool.wait_full(), bench.target.core, bench.target.pid
    jobs = core and apiserver.count_writes(core)["POST jobs"]
    before = Weather.now(pid)
    await WORKLOADS[name](bench)
    print(Weather.now(pid).since(before))
    if status:
        print(f"pool before: {dict(status)}\npool after, full again: {dict(await bench.pool.wait_full())}")
    if core is not None:
        made = apiserver.count_writes(core)["POST jobs"] - jobs
        print(f"Jobs created until then: {made}, one a minute or fewer by the probe of the network among them")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("workloads", nargs="+", choices=[*WORKLOADS, "all"], metavar="WORKLOAD", help="W1 to W7, or all")
    _add_service(add)
    _add_load(add)
    add("--results", type=Path, default=RESULTS, help="folder of the raw figures")
    add("--call-timeout", type=float, default=120.0, help="seconds until a call without an answer counts as broken")
    arguments = parser.parse_args()
    if "all" in arguments.workloads:
        arguments.workloads = list(WORKLOADS)
    return arguments


def _add_service(add: Callable[..., argparse.Action]) -> None:
    """Which service is loaded."""
    add("--url", help="a service that runs; without it one is started")
    add("--api-key", default="")
    add("--pid", type=int, default=0, help="the service's process, if it runs here")
    add("--backend", choices=("local", "kubernetes"), default="local", help="of the service it starts")
    add("--image", default="localhost/executor:dev")
    add("--namespace", default="default", help="with --url, where the bare pod goes")
    add(
        "--serve-flag",
        action="append",
        default=[],
        help="one more word for executor-api serve, as --serve-flag=--dispatch --serve-flag=proxy",
    )


def _add_load(add: Callable[..., argparse.Action]) -> None:
    """What it is loaded with."""
    add("--pool", type=int, default=20, help="sandboxes that wait")
    add("--template", default="default")
    add("--calls", type=int, default=200, help="W1 and W7")
    add("--pause", type=float, default=0.0, help="seconds between the calls of W1, W2 and W7: the pool refills")
    add("--batch", type=int, default=0, help="W1 and W7: so many calls without a pause, then wait for the pool to fill")
    add("--no-bare-pod", dest="bare_pod", action="store_false", help="no bare pod beside W1")
    add("--cold-calls", type=int, default=30, help="W2")
    add("--cold-request", default='{"resources": {"memory": "320Mi"}}', help="what keeps the pool from serving W2")
    add("--rounds", type=int, default=3, help="bursts of W3 and W4")
    add(
        "--refill-rate",
        type=float,
        default=0.0,
        help="of W5; without it measured by calls that never let the pool fill",
    )
    add("--multiples", type=float, nargs="+", default=[0.5, 0.9, 1.2], help="W5")
    add("--seconds", type=float, default=60.0, help="W5, each multiple, and W6")
    add("--connections", type=int, default=4, help="W6")
    add("--litter", action="store_true", help="W6: one more connection whose calls leave a process each")
    add("--seed", type=int, default=1, help="of the arrivals of W5")


if __name__ == "__main__":
    raise SystemExit(main())
