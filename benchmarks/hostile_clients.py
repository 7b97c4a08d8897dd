"""What clients that mean no good (`attackers.py`) do to the calls of those who do: one attack after another.

Good calls come ten a second, beside each attack and in the lulls between. The service starts on this machine, with as
few descriptors as a shell gives it, and asks nobody for a key: so nobody is turned away for that.

PYTHONPATH=tests python benchmarks/hostile_clients.py
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import uvloop
import workloads
from attackers import ATTACKS
from calls import Caller, Kind, Sample, Verdict, judge
from figures import print_header, print_row
from report import RESULTS, Record
from support.service import Service
from wire import Client

DESCRIPTORS = 1024
LULL = "nothing"
_MEGABYTE = 1024 * 1024
_RATE = 10.0
_SETTLE_SECONDS = 3.0
_SLACK = 16
"""Descriptors that the service may have more than before: sandboxes that wait, connections of ours."""


def main() -> int:
    """Return 1 if a good call was not answered rightly, or the service has more open than before."""
    arguments = _arguments()
    record, most = Record(arguments.results), resource.getrlimit(resource.RLIMIT_NOFILE)
    with tempfile.TemporaryDirectory() as folder:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, most[1]))
        with Service(Path(folder)) as service:
            resource.setrlimit(resource.RLIMIT_NOFILE, most)
            print_header(f"good calls, {_RATE:g} a second")
            scene = Scene(service.url, psutil.Process(service.process.pid), record)
            left = uvloop.run(scene.play(arguments.attacks or list(ATTACKS), arguments.seconds))
            service.wait_ready()
    return record.close() or (0 if left <= _SLACK else 1)


class Scene:
    """The service at ``url``, which is ``process``, good calls to it, and those who disturb them."""

    def __init__(self, url: str, process: psutil.Process, record: Record) -> None:
        self._url = url
        self._process = process
        self._record = record
        self._client = Client(url)
        self._caller = Caller(self._client, Kind(), 60)

    async def play(self, attacks: Sequence[str], seconds: float) -> int:
        """Every attack between two lulls; how many more descriptors the service has in the end."""
        await self._calls(2.0)
        before = self._process.num_fds()
        for name in attacks:
            self._tell(LULL, await self._calls(seconds / 4))
            with self._attacked(name):
                self._tell(name, await self._calls(seconds))
            await asyncio.sleep(_SETTLE_SECONDS)
        self._tell(LULL, await self._calls(seconds / 4))
        self._client.close()
        await asyncio.sleep(_SETTLE_SECONDS)
        after = self._process.num_fds()
        print(f"descriptors of the service before all attacks {before}, after them {after}")
        return after - before

    async def _calls(self, seconds: float) -> list[Sample]:
        steady = workloads.Steady([self._caller], _RATE)
        asyncio.get_running_loop().call_later(seconds, steady.stop)
        return judge(await steady.run(), Kind())

    def _tell(self, name: str, samples: Sequence[Sample]) -> None:
        self._record.keep(f"hostile clients, {name}", samples)
        print_row(f"beside {name}", [sample.wall for sample in samples if sample.verdict is Verdict.RIGHT])
        wrong = collections.Counter(sample.problem for sample in samples if sample.verdict is not Verdict.RIGHT)
        memory = self._process.memory_info().rss // _MEGABYTE
        print(f"  the service has {self._process.num_fds()} descriptors, {memory} MiB; not right: {dict(wrong)}")

    @contextlib.contextmanager
    def _attacked(self, name: str) -> Iterator[None]:
        """While this lasts; by another process, so that what it costs is not this client's time."""
        command = [sys.executable, str(Path(__file__).with_name("attackers.py")), name, self._url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None  # noqa: S101 - for the type checker
            print(f"  {name}: {process.stdout.readline().strip()}")
            yield
            process.terminate()
            print(f"  {process.stdout.read().strip()}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("attacks", nargs="*", metavar="ATTACK", help=f"all if none is named: {', '.join(ATTACKS)}")
    add("--seconds", type=float, default=40.0, help="how long each lasts; the service is patient for 30")
    add("--results", type=Path, default=RESULTS, help="folder of the raw figures")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
