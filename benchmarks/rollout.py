"""Sends calls to a release of the chart while it is upgraded, rolled back and drained, and counts what is lost.

KUBECONFIG=... make bench-rollout

It installs the chart with two replicas, in namespaces of its own, and a PostgreSQL server on this machine, which pods
must reach at --database-address. No call is sent twice: one whose answer does not come is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop
from calls import Caller, Kind, Reply, judge
from chart.helm import Values
from chart.release import Release, release, until
from figures import print_header
from report import RESULTS, Record
from support.postgres import postgres_server
from wire import Client
from workloads import Steady

_SERVICE = "app.kubernetes.io/component=api"


def main() -> int:
    """Return 1 if an answer was wrong or missing, or something stays behind the release."""
    arguments = _arguments()
    with release() as found, postgres_server(arguments.database_address or _node(found)) as database:
        values = _values(arguments, database.remote_url())
        began = time.perf_counter()
        found.install(values)
        print(f"installed and ready after {time.perf_counter() - began:.1f} s")
        code = uvloop.run(_run(arguments, found, values))
        began = time.perf_counter()
        found.uninstall()
        until(lambda: not found.left(), found.left)
        print(f"nothing left {time.perf_counter() - began:.1f} s after `helm uninstall`")
    return code


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rate", type=float, default=5, help="calls a second")
    add(
        "--isolation", default="reuse", help="of the calls: reuse, or single_use where the cluster makes pods that fast"
    )
    add("--pool", type=int, default=4, help="sandboxes that wait")
    add("--next-image", default="", help="image of the service to upgrade to; else only values change")
    add("--database-address", default="", help="address of this machine that pods reach; else the node's own")
    add("--call-timeout", type=float, default=120, help="seconds until a call without an answer is counted as lost")
    add("--results", type=Path, default=RESULTS, help="folder of the raw figures")
    return parser.parse_args()


def _values(arguments: argparse.Namespace, database: str) -> Values:
    return {
        "replicas": 2,
        "store": {"url": database},
        "service": {"type": "NodePort"},
        "templates": {"default": {"pool": {"size": arguments.pool}}},
        "settings": {"maxConcurrency": 5},  # what a small cluster has room for
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
    }


async def _run(arguments: argparse.Namespace, found: Release, values: Values) -> int:
    stages: dict[str, Callable[[], object]] = {
        "quiet": lambda: time.sleep(10),
        "helm upgrade": lambda: found.upgrade(_changed(arguments, values)),
        "helm rollback": found.rollback,
        "drain of each pod": lambda: _drain(found),
    }
    kind = Kind({"isolation": arguments.isolation})
    client = Client(*_reached(found))
    record = Record(arguments.results)
    for name, step in stages.items():
        steady = Steady([Caller(client, kind, arguments.call_timeout)], arguments.rate)
        replies, seconds = await _under_load(steady, step)
        print_header(f"{name}, {seconds:.1f} s under {arguments.rate:g} calls a second")
        record.add(name, judge(replies, kind))
    client.close()
    return record.close()


async def _under_load(steady: Steady, step: Callable[[], object]) -> tuple[list[Reply], float]:
    """The replies, and how long the step took. A moment of load before it and after belongs to it."""
    load = asyncio.create_task(steady.run())
    await asyncio.sleep(2)
    began = time.perf_counter()
    await asyncio.to_thread(step)
    seconds = time.perf_counter() - began
    await asyncio.sleep(2)
    steady.stop()
    return await load, seconds


def _changed(arguments: argparse.Namespace, values: Values) -> Values:
    changed: Values = {**values, "settings": {"maxConcurrency": 6}}
    if arguments.next_image:
        repository, _, tag = arguments.next_image.rpartition(":")
        changed["image"] = {"repository": repository, "tag": tag}
    return changed


def _drain(found: Release) -> None:
    """Evict every pod of the service, as a drain of its node would: again and again while the budget forbids it."""
    from kubernetes.client.exceptions import ApiException

    def evicted(name: str) -> bool:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": found.namespace}}
        try:
            found.core.create_namespaced_pod_eviction(name, found.namespace, body)
        except ApiException as error:
            if error.status not in (404, 429):
                raise
            return error.status == 404  # it is on its way out already
        return True

    for name in list(_pods(found)):
        until(lambda name=name: evicted(name), lambda: "the disruption budget forbids it")  # type: ignore[misc]
    until(lambda: len(list(_ready(found))) == 2, lambda: list(_ready(found)))


def _pods(found: Release) -> Iterator[str]:
    return (pod.metadata.name for pod in _items(found))


def _ready(found: Release) -> Iterator[str]:
    for pod in _items(found):
        conditions = {item.type: item.status for item in pod.status.conditions or ()}
        if conditions.get("Ready") == "True" and not pod.metadata.deletion_timestamp:
            yield pod.metadata.name


def _items(found: Release) -> list[Any]:
    items: list[Any] = found.core.list_namespaced_pod(found.namespace, label_selector=_SERVICE).items
    return items


def _reached(found: Release) -> tuple[str, str]:
    """URL and key of the release, by way of its port on the node."""
    service = found.core.read_namespaced_service(found.name, found.namespace)
    key = base64.b64decode(found.secrets()[f"{found.name}-api-key"]["api-key"]).decode()
    return f"http://{_node(found)}:{service.spec.ports[0].node_port}", key


def _node(found: Release) -> str:
    addresses = found.core.list_node().items[0].status.addresses
    return next(item.address for item in addresses if item.type == "InternalIP")


if __name__ == "__main__":
    raise SystemExit(main())
