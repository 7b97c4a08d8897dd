"""What tracing costs: the same calls to a service that traces and to one that doesn't, in turns.

make bench-tracing
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from figures import print_header, print_row
from support.collector import Collector
from support.service import Service

CALL = {"code": "print(1)"}
TURN = 20
"""Calls before it is the other's turn."""
SETTLING = 40
"""Calls of each before the first that count."""


def main() -> None:
    """Measure, and print latency and processor time of the service."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=600, help="of each service")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        collector = stack.enter_context(Collector())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        kinds = {"without tracing": (), "with tracing": ("--tracing",), "with a silent collector": ("--tracing",)}
        services: dict[str, Service] = {}
        for name, flags in kinds.items():
            if "silent" in name:
                quiet = stack.enter_context(Collector())
                quiet.silent = True
                environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": quiet.url}
            services[name] = stack.enter_context(Service(Path(folder) / name, *flags, environ=environ))
        for service in services.values():
            for _ in range(SETTLING):
                _call(service)
        _measure(services, arguments.calls)


def _measure(services: dict[str, Service], calls: int) -> None:
    walls: dict[str, list[float]] = {name: [] for name in services}
    spent = dict.fromkeys(services, 0.0)
    for _ in range(calls // TURN):
        for name, service in services.items():
            before = _processor_seconds(service)
            for _ in range(TURN):
                began = time.perf_counter()
                _call(service)
                walls[name].append((time.perf_counter() - began) * 1000)
            spent[name] += _processor_seconds(service) - before
    print_header("POST /execute print(1), one after another")
    for name, values in walls.items():
        print_row(name, values)
    for name, seconds in spent.items():
        print(f"{name}: {seconds / len(walls[name]) * 1000:.2f} ms of the service's processor time a call")


def _call(service: Service) -> None:
    answer: dict[str, Any] = service.client.post("/execute", json=CALL).json()
    if answer["stdout"] != "1\n":
        raise RuntimeError(f"not an answer: {answer}")


def _processor_seconds(service: Service) -> float:
    """Of the service's process, not of what it started."""
    fields = Path(f"/proc/{service.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
