"""Makes faults under load and says what they cost: calls, time, sandboxes made for nothing.

KUBECONFIG=... PYTHONPATH=tests python benchmarks/faults.py                    # all that need no command
KUBECONFIG=... PYTHONPATH=tests python benchmarks/faults.py cordon idle-pods   # these
... --stop-kubelet "systemctl stop kubelet" --start-kubelet "systemctl start kubelet"

none       the load alone            idle-pods   half of the waiting pods are deleted
template   another template, SIGHUP  image       the image of --image vanishes from the node
cordon     no new pods on the node   quota       room for half as many pods as should wait
apiserver  the API server is down    kubelet     the kubelet is down

The last two and `image` need commands of yours. Give `image` an image name that nobody else uses.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import csv
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop
from breakage import COMMANDS, FAULTS, Fault, Site, never_ran, write_templates
from calls import Caller, Kind, Sample, Sleepy, Verdict, judge, used_twice
from figures import print_title
from jobs import Account, JobWatch, account
from pool import Pool
from report import RESULTS
from support.cluster import Namespace, namespace
from support.service import Service
from wire import Client
from workloads import Steady

LEAD_SECONDS = 3.0
"""Load before a fault, and at least so long after it."""
LOAD_SECONDS = 60.0
"""Load after a fault at most: a machine that it keeps full shows nothing more."""
LEAVE_SECONDS = 90.0
"""How long used sandboxes may take to be gone: the next collection of garbage finds what could not be deleted."""
_QUICK, _SLEEPS = 3, (1.0, 2.0, 3.0)
"""So many calls that sleep not at all, then one that sleeps for seconds, in turn."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one fault did. ``whole``: seconds from its end until the pool was at its size, None if it never was."""

    samples: Sequence[Sample]
    endings: frozenset[str]
    whole: float | None
    jobs: Account
    left: int

    def count(self, what: str) -> int:
        """How many calls came to that."""
        return sum(fate(sample, self.endings) == what for sample in self.samples)

    @property
    def failed(self) -> bool:
        """Whether a call was lost or wrong, a sandbox used twice or made for nothing, or the pool is not as it was."""
        twice = used_twice(self.samples)
        return bool(self.count("bad") or twice or self.jobs.over or self.left or self.whole is None)


def fate(sample: Sample, endings: frozenset[str]) -> str:
    """What became of a call: right, refused, "not run" for one of those reasons, or bad."""
    if sample.verdict is Verdict.RIGHT:
        return "right"
    turned_away = sample.reply.status in (429, 503) and sample.reply.headers.get("retry-after", "").isdigit()
    if turned_away:
        return "refused"
    return "not run" if never_ran(sample.answer, endings) else "bad"


def main() -> int:
    """Return 1 if any fault cost more than time and honest refusals."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder, namespace() as space:
        templates = Path(folder) / "templates.yaml"
        write_templates(templates, arguments.pool, [])
        flags = ("--namespace", space.name, "--image", arguments.image, "--templates", str(templates))
        with Service(Path(folder) / "data", "--backend", "kubernetes", *flags, *arguments.serve_flag) as service:
            try:
                return uvloop.run(_run(arguments, space, service, templates))
            finally:
                _keep_log(service, arguments.results)


async def _run(arguments: argparse.Namespace, space: Namespace, service: Service, templates: Path) -> int:
    client = Client(service.url)
    pool = Pool(client, "default")
    kinds = [Kind({"template": "default"})] * _QUICK
    callers = [
        Caller(client, kind, arguments.call_timeout)
        for seconds in _SLEEPS
        for kind in (*kinds, Sleepy({"template": "default"}, seconds=seconds))
    ]
    load, every, failed = Steady(callers, arguments.rate), [], False
    with JobWatch(space.batch, space.name) as jobs:
        site = Site(
            space=space,
            pool=pool,
            jobs=jobs,
            load=load,
            size=arguments.pool,
            seconds=arguments.seconds,
            service_pid=service.process.pid,
            templates=templates,
            commands=arguments.commands,
        )
        _print_titles(arguments)
        for name in arguments.faults:
            row = await _row(site, FAULTS[name], arguments)
            every += [(name, sample, fate(sample, row.endings)) for sample in row.samples]
            failed |= row.failed
            _print_row(name, row)
            if row.whole is None:
                break
    client.close()
    twice = used_twice(sample for _, sample, _ in every)
    print(f"\nall of it: {len(every)} calls, {len(twice)} sandboxes used twice {twice[:5]}")
    print(f"raw figures: {_keep(every, arguments.results)}")
    return int(failed or bool(twice))


async def _row(site: Site, fault: Fault, arguments: argparse.Namespace) -> Row:
    """Load, the fault under it, and load until the pool is nearly whole; then what it looks like when all is quiet."""
    await site.pool.wait_settled(arguments.patience)
    await _gone(site)
    before = site.jobs.seen()
    calls = asyncio.create_task(site.load.run())
    await asyncio.sleep(LEAD_SECONDS)
    spoilt = await fault.make(site)
    over = time.perf_counter()
    await asyncio.sleep(LEAD_SECONDS)
    whole = await _whole(site, arguments, over)
    samples = judge(await calls, Kind())
    left = await _gone(site)
    used = {(sample.answer.get("sandbox") or {}).get("job", "") for sample in samples}
    return Row(samples, fault.endings, whole, account(before, site.jobs.seen(), used, spoilt), left)


async def _whole(site: Site, arguments: argparse.Namespace, since: float) -> float | None:
    """Stop the load once only so many lack as calls take in two seconds; how long until none does.

    Where the load keeps a pool from coming back, it stops all the same.
    """
    try:
        await site.pool.wait_full(LOAD_SECONDS, lacking=min(site.size - 1, round(2 * arguments.rate)))
    except TimeoutError:
        print(f"  under load it does not come back within {LOAD_SECONDS:.0f} s")
    finally:
        site.load.stop()
    try:
        await site.pool.wait_settled(arguments.patience)
    except TimeoutError as error:
        print(f"  {error}")
        return None
    return time.perf_counter() - since


async def _gone(site: Site) -> int:
    """Wait for the pool's Jobs to be the only ones; how many others are left."""
    deadline = time.monotonic() + LEAVE_SECONDS
    while (left := len(site.jobs.present()) - site.size) and time.monotonic() < deadline:  # noqa: ASYNC110 - it polls
        await asyncio.sleep(0.1)
    return left


def _print_titles(arguments: argparse.Namespace) -> None:
    print_title(f"pool of {arguments.pool}, {arguments.rate} calls/s, faults of {arguments.seconds:.0f} s")
    print(
        f"{'fault':10} {'calls':>6} {'right':>6} {'refused':>8} {'not run':>8} {'bad':>4} {'slowest s':>10} "
        f"{'whole s':>8} {'created':>8} {'needed':>7} {'over':>5} {'twice':>6} {'left':>5}"
    )


def _print_row(name: str, row: Row) -> None:
    whole = "never" if row.whole is None else f"{row.whole:.1f}"
    slowest = max(sample.wall for sample in row.samples) / 1000
    counts = f"{row.count('right'):6} {row.count('refused'):8} {row.count('not run'):8} {row.count('bad'):4}"
    made = f"{row.jobs.created:8} {row.jobs.needed:7} {row.jobs.over:5} {len(used_twice(row.samples)):6} {row.left:5}"
    print(f"{name:10} {len(row.samples):6} {counts} {slowest:10.2f} {whole:>8} {made}", flush=True)
    not_run = [sample.answer for sample in row.samples if fate(sample, row.endings) == "not run"]
    for reason, count in collections.Counter(answer["reason"] for answer in not_run).items():
        first = next(answer for answer in not_run if answer["reason"] == reason)
        print(f"  not run, {reason}: {count}, such as {first['id']}: {first['message']}")
    for sample in [sample for sample in row.samples if fate(sample, row.endings) == "bad"][:5]:
        print(f"  {sample.verdict}: {sample.answer.get('id', '')} {sample.problem}")


def _keep(every: Iterable[tuple[str, Sample, str]], folder: Path) -> Path:
    path = _file(folder, "csv")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("fault", "due_s", "wall_ms", "status", "fate", "id", "reason", "start", "job", "pod_uid"))
        for name, sample, became in every:
            answer, sandbox = sample.answer, sample.answer.get("sandbox") or {}
            said = (answer.get("id"), answer.get("reason"), sample.start, sandbox.get("job"), sandbox.get("pod_uid"))
            writer.writerow(
                (name, f"{sample.reply.intended:.3f}", f"{sample.wall:.1f}", sample.reply.status, became, *said)
            )
    return path


def _keep_log(service: Service, folder: Path) -> None:
    path = _file(folder, "log")
    path.write_text("".join(service.log))
    print(f"log of the service: {path}")


def _file(folder: Path, kind: str) -> Path:
    folder.mkdir(exist_ok=True)
    return folder / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}-faults.{kind}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("faults", nargs="*", choices=[*FAULTS, []], metavar="FAULT", help="default: all whose commands are given")
    add("--image", default="localhost/executor:dev")
    add("--pool", type=int, default=10, help="sandboxes that wait, 2 or more")
    add("--rate", type=float, default=2.0, help="calls a second")
    add("--seconds", type=float, default=20.0, help="how long a fault lasts that has an end")
    add("--patience", type=float, default=300.0, help="seconds until the pool counts as not coming back")
    add("--call-timeout", type=float, default=200.0, help="seconds until a call without an answer counts as lost")
    add("--serve-flag", action="append", default=[], help="one more word for executor-api serve")
    add("--results", type=Path, default=RESULTS, help="folder of the raw figures and the service's log")
    for command in COMMANDS:
        add(f"--{command}", default="", metavar="COMMAND", help="for the shell")
    arguments = parser.parse_args()
    given = {name: vars(arguments)[name.replace("-", "_")] for name in COMMANDS}
    arguments.commands = {name: command for name, command in given.items() if command}
    able = [name for name, fault in FAULTS.items() if set(fault.commands) <= arguments.commands.keys()]
    arguments.faults = arguments.faults or able
    for name in set(arguments.faults) - set(able):
        parser.error(f"{name} needs --{' and --'.join(FAULTS[name].commands)}")
    return arguments


if __name__ == "__main__":
    raise SystemExit(main())
