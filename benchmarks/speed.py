"""Latency of single calls, one after another, beside the bare thing in the same run.

make bench                              # this machine
KUBECONFIG=... make bench-cluster       # a cluster
"""

from __future__ import annotations

import argparse
import csv
import http.client
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from apiserver import pod_manifest
from figures import milliseconds, print_header, print_row
from support.service import Service

from executor_api import Executor

PYTHON = {"code": "print(1)"}
TRUE = {"command": ["true"]}


def main() -> None:
    """Measure what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("local", "kubernetes"), default="local")
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--image", default="localhost/executor:dev")
    parser.add_argument("--dispatch", default="auto")
    parser.add_argument("--csv", type=Path, help="keep the raw figures here")
    arguments = parser.parse_args()
    measure = _local if arguments.backend == "local" else _kubernetes
    series = measure(arguments)
    for name, values in series.items():
        print_row(name, values)
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["series", "ms"])
            writer.writerows((name, f"{value:.3f}") for name, values in series.items() for value in values)


def _local(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Calls and their bare counterparts take turns, so that both meet the same weather."""
    names = (
        "POST /execute print(1)",
        "  of it, ours",
        "Executor.run print(1)",
        "subprocess.run python -c print(1)",
        "POST /execute true",
        "Executor.run true",
        "subprocess.run true",
    )
    series: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as data_dir, Service(Path(data_dir)) as service, Executor.local() as executor:
        client = Client(service.url)
        actions = {
            names[2]: lambda: executor.run(code="print(1)"),
            names[3]: lambda: subprocess.run([sys.executable, "-c", "print(1)"], check=True, capture_output=True),
            names[4]: lambda: client.execute(TRUE),
            names[5]: lambda: executor.run(["true"]),
            names[6]: lambda: subprocess.run(["true"], check=True, capture_output=True),
        }
        for number in range(arguments.calls + 20):
            wall, ours = client.timed()
            figures = {names[0]: wall, names[1]: ours}
            figures |= {name: milliseconds(action) for name, action in actions.items()}
            if number >= 20:  # the first ones warm everything up
                for name, value in figures.items():
                    series[name].append(value)
    print_header("local backend, serial")
    return series


class Client:
    """One kept connection of the standard library's client: little of what it measures is its own time."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"))

    def execute(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run one call and return the answer."""
        self._connection.request("POST", "/execute", json.dumps(request), {"Content-Type": "application/json"})
        answer: dict[str, Any] = json.loads(self._connection.getresponse().read())
        return answer

    def timed(self) -> tuple[float, float]:
        """Wall time of a call, and what of it is neither sandbox nor call: HTTP, checks, store, client."""
        began = time.perf_counter()
        answer = self.execute(PYTHON)
        wall = (time.perf_counter() - began) * 1000
        if answer["stdout"] != "1\n":
            raise SystemExit(f"a wrong answer: {answer}")
        return wall, wall - _elsewhere(answer["timings_ms"])


def _elsewhere(timings: dict[str, float | None]) -> float:
    """Phases that pass in the sandbox or in the cluster."""
    return sum(timings.get(phase) or 0.0 for phase in ("create", "schedule", "start", "claim", "run", "collect"))


def _kubernetes(arguments: argparse.Namespace) -> dict[str, list[float]]:
    from support.cluster import namespace

    series: dict[str, list[float]] = {
        "cold POST /execute print(1)": [],
        "  of it, ours": [],
        "bare Pod, create to running seen": [],
    }
    with namespace() as space, tempfile.TemporaryDirectory() as data_dir:
        flags = (
            "--backend",
            "kubernetes",
            "--namespace",
            space.name,
            "--image",
            arguments.image,
            "--dispatch",
            arguments.dispatch,
        )
        with Service(Path(data_dir), *flags) as service:
            client = Client(service.url)
            for number in range(arguments.calls + 3):
                wall, ours = client.timed()
                bare = _bare_pod(space, arguments.image, number)
                if number >= 3:
                    for values, value in zip(series.values(), (wall, ours, bare), strict=True):
                        values.append(value)
                time.sleep(0.3)  # the controllers clean up at 20 requests/s
    print_header("kubernetes backend, cold, serial")
    return series


def _bare_pod(space: Any, image: str, number: int) -> float:
    """Create a Pod that sleeps, and watch until its status says that it runs."""
    from kubernetes import watch

    name = f"bare-{number}"
    began = time.perf_counter()
    space.core.create_namespaced_pod(space.name, pod_manifest(name, image, ["sleep", "60"]))
    stream = watch.Watch()
    for event in stream.stream(
        space.core.list_namespaced_pod, space.name, field_selector=f"metadata.name={name}", timeout_seconds=60
    ):
        if event["object"].status.phase == "Running":
            stream.stop()
    elapsed = (time.perf_counter() - began) * 1000
    space.core.delete_namespaced_pod(name, space.name, grace_period_seconds=0)
    return elapsed


if __name__ == "__main__":
    main()
