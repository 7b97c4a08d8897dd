"""What a template can ask for to keep its sandboxes further apart, as the cluster gives it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from kubernetes import client
from support.cluster import Namespace

from cluster.calls import OneCall
from executor_api.backends.base import SandboxFailedError
from executor_api.backends.kubernetes.backend import KubernetesBackend

pytestmark = pytest.mark.cluster

HANDLER = "runc"
"""What containerd calls the runtime that every cluster has."""


@contextlib.contextmanager
def _runtime_class(name: str) -> Iterator[None]:
    node = client.NodeV1Api()
    node.create_runtime_class({"metadata": {"name": name}, "handler": HANDLER})
    try:
        yield
    finally:
        node.delete_runtime_class(name)


@contextlib.contextmanager
def _priority_class(name: str) -> Iterator[None]:
    scheduling = client.SchedulingV1Api()
    scheduling.create_priority_class({"metadata": {"name": name}, "value": 1000})
    try:
        yield
    finally:
        scheduling.delete_priority_class(name)


async def _output(call: OneCall) -> bytes:
    sandbox = await call.ready()
    async with call.source(sandbox) as source:
        await call.read(source)
    await sandbox.release()
    return call.stdout


async def test_runtime_and_priority_class(backend: KubernetesBackend, own_namespace: Namespace) -> None:
    """The pod runs with both; what the classes mean is the cluster's."""
    name = own_namespace.name
    with _runtime_class(name), _priority_class(name):
        call = OneCall(backend, {"runtime_class": name, "priority_class": name}, code="print(1)")
        sandbox = await call.ready()
        (pod,) = (item for item in own_namespace.pods() if item.metadata.labels["job-name"] == call.name)
        async with call.source(sandbox) as source:
            await call.read(source)
        await sandbox.release()
    assert (pod.spec.runtime_class_name, pod.spec.priority_class_name, pod.spec.priority) == (name, name, 1000)
    assert call.stdout == b"1\n"


async def test_node_selector_and_tolerations(backend: KubernetesBackend, own_namespace: Namespace) -> None:
    """A sandbox goes to a node with a taint that it tolerates, and only there."""
    node = own_namespace.core.list_node().items[0].metadata.name
    selector = {"kubernetes.io/hostname": node}
    toleration = {"key": "example.com/sandboxes", "operator": "Exists", "effect": "NoSchedule"}
    call = OneCall(backend, {"node_selector": selector, "tolerations": [toleration]}, code="print(1)")
    sandbox = await call.ready()
    (pod,) = (item for item in own_namespace.pods() if item.metadata.labels["job-name"] == call.name)
    async with call.source(sandbox) as source:
        await call.read(source)
    await sandbox.release()
    assert (pod.spec.node_name, pod.spec.node_selector) == (node, selector)
    assert toleration["key"] in {item.key for item in pod.spec.tolerations}


async def test_user_namespace(backend: KubernetesBackend) -> None:
    """With ``host_users: false`` the ids inside are others outside, root among them."""
    call = OneCall(backend, {"host_users": False, "start_seconds": 30}, command="cat /proc/self/uid_map")
    try:
        printed = await _output(call)
    except SandboxFailedError as error:
        found = await backend.find(call.name, call.execution_id)
        if found is not None:
            await found.release()
        pytest.skip(f"this cluster's nodes can't make pods with user namespaces: {error}")
    plain = await _output(OneCall(backend, command="cat /proc/self/uid_map"))
    ids = printed.decode().split()
    assert ids != plain.decode().split()
    assert ids[:1] == ["0"]
    assert int(ids[1]) > 0
