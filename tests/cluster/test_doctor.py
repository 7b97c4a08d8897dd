"""`executor-api doctor` on a real cluster, as its administrator and as a service account that lacks something."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from support.cluster import IMAGE, POD_IPS, Namespace, kubeconfig

pytestmark = pytest.mark.cluster

NAME = "doctor"
DENY_ALL = {"metadata": {"name": NAME}, "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}}
RULES = [
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list", "watch", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update"]},
]
PROXY_RULES = [*RULES, {"apiGroups": [""], "resources": ["pods/proxy"], "verbs": ["get", "create", "delete"]}]


def _doctor(space: Namespace, *flags: str) -> tuple[int, list[dict[str, str]]]:
    command = [sys.executable, "-m", "executor_api", "doctor", "--json", "--backend", "kubernetes"]
    where = ["--namespace", space.name, "--image", IMAGE]
    done = subprocess.run([*command, *where, *flags], stdout=subprocess.PIPE, timeout=100, check=False)
    return done.returncode, json.loads(done.stdout)


def _verdicts(findings: list[dict[str, str]]) -> dict[str, str]:
    return {item["check"]: item["verdict"] for item in findings}


@pytest.fixture
def kubeconfig_of(own_namespace: Namespace, tmp_path: Path) -> Iterator[Any]:
    """Makes a kubeconfig of a service account that may do what these rules say, in its namespace only."""
    rbac = client.RbacAuthorizationV1Api()
    space = own_namespace.name

    def make(rules: list[dict[str, Any]]) -> str:
        own_namespace.core.create_namespaced_service_account(space, {"metadata": {"name": NAME}})
        rbac.create_namespaced_role(space, {"metadata": {"name": NAME}, "rules": rules})
        subject = {"kind": "ServiceAccount", "name": NAME, "namespace": space}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME}
        rbac.create_namespaced_role_binding(space, {"metadata": {"name": NAME}, "subjects": [subject], "roleRef": role})
        asked = own_namespace.core.create_namespaced_service_account_token(NAME, space, {"spec": {}})
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(kubeconfig(asked.status.token)))
        return str(path)

    yield make
    for delete in (
        own_namespace.core.delete_namespaced_service_account,
        rbac.delete_namespaced_role_binding,
        rbac.delete_namespaced_role,
    ):
        with contextlib.suppress(client.exceptions.ApiException):
            delete(NAME, space)


def test_a_cluster_that_is_right(own_namespace: Namespace) -> None:
    """Nothing fails, a sandbox has run, and it is gone."""
    assert os.environ["KUBECONFIG"]
    code, found = _doctor(own_namespace)
    verdicts = _verdicts(found)
    assert (code, "fail" in verdicts.values()) == (0, False), found
    assert (verdicts["RBAC"], verdicts["image"], verdicts["reachability"]) == ("ok", "ok", "ok")
    assert (verdicts["network ingress"], verdicts["network egress"]) == ("warn", "warn")
    own_namespace.wait_empty()


def test_policy_quota_and_classes(own_namespace: Namespace, tmp_path: Path) -> None:
    """A default-deny policy is seen; a quota without room and classes that are not there fail with their names."""
    templates = tmp_path / "templates.yaml"
    templates.write_text(
        "templates: [{name: strong, runtime_class: no-such-runtime}, {name: urgent, priority_class: no-such-class}]"
    )
    network = client.NetworkingV1Api()
    network.create_namespaced_network_policy(own_namespace.name, DENY_ALL)
    try:
        with own_namespace.quota(pods="0"):
            code, found = _doctor(own_namespace, "--templates", str(templates))
    finally:
        network.delete_namespaced_network_policy(NAME, own_namespace.name)
    failed = {item["check"]: item["text"] for item in found if item["verdict"] == "fail"}
    assert code == 1
    assert set(failed) == {"template strong", "template urgent", "quota", "image"}
    assert "no-such-runtime" in failed["template strong"]
    assert "no-such-class" in failed["template urgent"]
    assert "lacks 1 of pods where 0 of 0 is in use" in failed["quota"]
    assert "exceeded quota" in failed["image"]
    verdicts = _verdicts(found)
    assert (verdicts["network ingress"], verdicts["network egress"]) == ("ok", "ok")
    own_namespace.wait_empty()


def test_the_least_role_is_enough(own_namespace: Namespace, kubeconfig_of: Any) -> None:
    """With exactly the documented verbs nothing fails; what that Role can't see is a warning."""
    rules = RULES if POD_IPS else PROXY_RULES
    code, found = _doctor(own_namespace, "--kubeconfig", kubeconfig_of(rules))
    verdicts = _verdicts(found)
    assert code == 0, found
    assert (verdicts["RBAC"], verdicts["image"], verdicts["reachability"]) == ("ok", "ok", "ok")
    assert (verdicts["quota"], verdicts["network"]) == ("warn", "warn")


def test_a_missing_verb_is_named(own_namespace: Namespace, kubeconfig_of: Any) -> None:
    """The verb, the resource, and where to add it."""
    less = [rule if rule["resources"] != ["jobs"] else {**rule, "verbs": ["create", "get"]} for rule in RULES]
    code, found = _doctor(own_namespace, "--kubeconfig", kubeconfig_of(less))
    lines = [item["text"] for item in found if item["verdict"] == "fail"]
    assert code == 1
    assert [line.split(" in namespace")[0] for line in lines] == [
        f"the service may not {verb} jobs.batch" for verb in ("list", "watch", "patch", "delete")
    ]
    assert own_namespace.jobs() == []


def test_proxy_rights_are_asked_for_where_they_are_needed(own_namespace: Namespace, kubeconfig_of: Any) -> None:
    """With --dispatch proxy the Role lacks three verbs more."""
    _, found = _doctor(own_namespace, "--dispatch", "proxy", "--kubeconfig", kubeconfig_of(RULES))
    texts = [item["text"] for item in found if item["check"] == "RBAC"]
    assert [text.split(" in namespace")[0] for text in texts] == [
        f"the service may not {verb} pods/proxy" for verb in ("create", "get", "delete")
    ]
    own_namespace.wait_empty()
