"""The cluster that KUBECONFIG points to, as its operator would handle it."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

IMAGE = os.environ.get("EXECUTOR_TEST_IMAGE", "localhost/executor:dev")
POD_IPS = not os.environ.get("EXECUTOR_TEST_NO_POD_IPS")
"""Whether this machine reaches pods by their addresses. It doesn't where nodes are containers, as those of kind are."""
MANAGED = "app.kubernetes.io/managed-by=executor-api"
GPU = "nvidia.com/gpu"


class Namespace:
    """A namespace of its own for one test module, with Pod Security ``restricted`` enforced."""

    def __init__(self) -> None:
        config.load_kube_config()
        self.core = client.CoreV1Api()
        self.batch = client.BatchV1Api()
        self.name = f"executor-test-{secrets.token_hex(4)}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.core.create_namespace({"metadata": {"name": self.name, "labels": labels}})

    def delete(self) -> None:
        """Delete it with all in it."""
        self.core.delete_namespace(self.name)

    def jobs(self) -> list[Any]:
        """Jobs of the service."""
        found: list[Any] = self.batch.list_namespaced_job(self.name, label_selector=MANAGED).items
        return found

    def pods(self) -> list[Any]:
        """Pods of the service."""
        found: list[Any] = self.core.list_namespaced_pod(self.name, label_selector=MANAGED).items
        return found

    def delete_pod(self, name: str) -> None:
        """Delete a pod as a person would."""
        self.core.delete_namespaced_pod(name, self.name)

    def delete_job(self, name: str) -> None:
        """Delete a Job and its pod."""
        self.batch.delete_namespaced_job(name, self.name, propagation_policy="Background")

    def evict(self, name: str) -> None:
        """Evict a pod as a drain does."""
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": self.name}}
        self.core.create_namespaced_pod_eviction(name, self.name, body)

    @contextlib.contextmanager
    def cordoned(self, node: str) -> Iterator[None]:
        """No new pods on the node meanwhile."""
        self.core.patch_node(node, {"spec": {"unschedulable": True}})
        try:
            yield
        finally:
            self.core.patch_node(node, {"spec": {"unschedulable": None}})

    @contextlib.contextmanager
    def quota(self, **hard: str) -> Iterator[None]:
        """A resource quota meanwhile."""
        body = {"metadata": {"name": "test"}, "spec": {"hard": hard}}
        self.core.create_namespaced_resource_quota(self.name, body)
        self.wait(lambda: self.core.read_namespaced_resource_quota("test", self.name).status.hard)
        try:
            yield
        finally:
            self.core.delete_namespaced_resource_quota("test", self.name)

    @contextlib.contextmanager
    def devices(self, resource: str, count: int) -> Iterator[None]:
        """Extended resources on the first node meanwhile, told to its status as a device plugin would."""
        node = self.core.list_node().items[0].metadata.name
        path = "/status/capacity/" + resource.replace("/", "~1")
        self.core.patch_node_status(node, [{"op": "add", "path": path, "value": str(count)}])
        self.wait(lambda: self.core.read_node(node).status.allocatable.get(resource) == str(count))
        try:
            yield
        finally:
            self.core.patch_node_status(node, [{"op": "remove", "path": path}])

    def wait_empty(self, seconds: float = 120) -> None:
        """Wait until no Job and no pod of the service is left.

        A killed service's trial of the network may still run, be ended, linger half a minute for who reads its report,
        and then wait for the kubelet.
        """
        self.wait(lambda: not self.jobs() and not self.pods(), seconds)

    def wait_for_service_account(self) -> None:
        """Wait until pods can be made in it."""

        def there() -> bool:
            with contextlib.suppress(ApiException):
                self.core.read_namespaced_service_account("default", self.name)
                return True
            return False

        self.wait(there)

    def wait(self, condition: Any, seconds: float = 60) -> None:
        """Wait until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: jobs {len(self.jobs())}, pods {len(self.pods())}")
            time.sleep(0.05)


def kubeconfig(token: str) -> dict[str, Any]:
    """Of the cluster that we know ourselves, with another user."""
    settings = client.Configuration.get_default_copy()
    authority = base64.b64encode(Path(settings.ssl_ca_cert).read_bytes()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": settings.host, "certificate-authority-data": authority}}],
        "users": [{"name": "x", "user": {"token": token}}],
    }


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """Make a namespace, or skip loudly without a cluster. Who is told to end meanwhile does not leave it behind."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG is not set: this test needs a cluster")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # SystemExit is a failed test to pytest
    found = Namespace()
    try:
        found.wait_for_service_account()
        yield found
    finally:
        found.delete()
        signal.signal(signal.SIGTERM, before)
