"""Releases of the chart on the cluster of KUBECONFIG, each in namespaces of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import helm_python
import pytest
from kubernetes import client, config
from support.cluster import IMAGE

from chart.helm import CHART, Values

API_IMAGE = os.environ.get("EXECUTOR_TEST_API_IMAGE", "")
"""Image of the service; empty: the chart's default."""
MADE = "app.kubernetes.io/managed-by=executor-api"
_SECONDS = 180


class Release:
    """One release, and what is there of it."""

    def __init__(self, namespace: str, sandboxes: str) -> None:
        self.name = "executor"
        self.namespace = namespace
        self.sandboxes = sandboxes
        self.core = client.CoreV1Api()
        self._helm = helm_python.Config(namespace=namespace)

    def install(self, values: Values) -> None:
        """Install it and wait until it is ready."""
        self._helm.install(CHART, self.name, self._filled(values), wait="watcher", timeout=_SECONDS)

    def upgrade(self, values: Values) -> None:
        """Bring it to other values, and wait until it is ready."""
        self._helm.upgrade(CHART, self.name, self._filled(values), wait="watcher", timeout=_SECONDS)

    def rollback(self) -> None:
        """Bring it back to what it was before the last upgrade."""
        self._helm.rollback(self.name, wait="watcher", timeout=_SECONDS)

    def test(self) -> str:
        """`helm test`; returns what its pod said. Raises `HelmReleaseError` if it fails."""
        said: str = self._helm.test(self.name, timeout=_SECONDS, logs=True)["logs"]
        return said

    def uninstall(self) -> None:
        """Uninstall it, without waiting for what goes on its own after that."""
        self._helm.uninstall(self.name, timeout=_SECONDS, ignore_not_found=True)

    def waiting(self) -> set[str]:
        """Names of the sandboxes that wait for calls."""
        jobs = client.BatchV1Api().list_namespaced_job(
            self.sandboxes, label_selector=f"{MADE},executor-api/state=waiting"
        )
        return {job.metadata.name for job in jobs.items if not job.metadata.deletion_timestamp}

    def open(self) -> bool:
        """Whether a sandbox is there that no policy keeps from talking."""
        policies = client.NetworkingV1Api().list_namespaced_network_policy(self.sandboxes).items
        if any(item.metadata.name == f"{self.name}-deny" for item in policies):
            return False
        selector = "app.kubernetes.io/name=executor-sandbox"
        return bool(self.core.list_namespaced_pod(self.sandboxes, label_selector=selector).items)

    def secrets(self) -> dict[str, dict[str, str]]:
        """Data of the Secrets that the chart made."""
        found = self.core.list_namespaced_secret(
            self.namespace, label_selector=f"app.kubernetes.io/instance={self.name}"
        )
        return {item.metadata.name: item.data for item in found.items}

    def left(self) -> list[str]:
        """What is there in its namespaces, but for what every namespace has, and its own objects of the cluster."""
        return [*self._in(self.namespace), *self._in(self.sandboxes), *self._of_the_cluster()]

    def _in(self, namespace: str) -> Iterator[str]:
        core, apps, batch = self.core, client.AppsV1Api(), client.BatchV1Api()
        network, rbac = client.NetworkingV1Api(), client.RbacAuthorizationV1Api()
        lists: dict[str, Callable[[str], Any]] = {
            "Pod": core.list_namespaced_pod,
            "Service": core.list_namespaced_service,
            "Secret": core.list_namespaced_secret,
            "ConfigMap": core.list_namespaced_config_map,
            "ServiceAccount": core.list_namespaced_service_account,
            "PersistentVolumeClaim": core.list_namespaced_persistent_volume_claim,
            "ResourceQuota": core.list_namespaced_resource_quota,
            "LimitRange": core.list_namespaced_limit_range,
            "Deployment": apps.list_namespaced_deployment,
            "Job": batch.list_namespaced_job,
            "Lease": client.CoordinationV1Api().list_namespaced_lease,
            "NetworkPolicy": network.list_namespaced_network_policy,
            "Role": rbac.list_namespaced_role,
            "RoleBinding": rbac.list_namespaced_role_binding,
        }
        for kind, listed in lists.items():
            names = (item.metadata.name for item in listed(namespace).items)
            yield from (f"{namespace} {kind} {name}" for name in names if name not in {"default", "kube-root-ca.crt"})

    def _of_the_cluster(self) -> Iterator[str]:
        rbac, admission = client.RbacAuthorizationV1Api(), client.AdmissionregistrationV1Api()
        lists = (
            rbac.list_cluster_role,
            rbac.list_cluster_role_binding,
            admission.list_validating_admission_policy,
            admission.list_validating_admission_policy_binding,
        )
        names = (item.metadata.name for listed in lists for item in listed().items)
        return (name for name in names if name.startswith(f"{self.namespace}-"))

    def _filled(self, values: Values) -> Values:
        images: Values = {"sandbox": {"image": _image(IMAGE), "namespace": {"name": self.sandboxes}}}
        if API_IMAGE:
            images["image"] = _image(API_IMAGE)
        return _merged(images, values)


def _image(reference: str) -> dict[str, str]:
    repository, _, tag = reference.rpartition(":")
    return {"repository": repository, "tag": tag}


def _merged(first: Values, second: Values) -> Values:
    both = {**first, **second}
    for key in first.keys() & second.keys():
        if isinstance(first[key], dict) and isinstance(second[key], dict):
            both[key] = _merged(first[key], second[key])
    return both


@contextlib.contextmanager
def release(*, one_namespace: bool = False) -> Iterator[Release]:
    """A release that is not installed yet, with a namespace; both are gone after the block. Skips without a cluster."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG is not set: this test needs a cluster")
    config.load_kube_config()
    name = f"executor-chart-{secrets.token_hex(4)}"
    found = Release(name, name if one_namespace else f"{name}-sandboxes")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    found.core.create_namespace({"metadata": {"name": name, "labels": labels}})
    try:
        yield found
    finally:
        found.uninstall()
        found.core.delete_namespace(name)


def until(condition: Callable[[], bool], problem: Callable[[], object], seconds: float = 120) -> None:
    """Wait for something of the cluster; ``problem`` tells what is there instead."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {problem()}"
        time.sleep(0.2)
