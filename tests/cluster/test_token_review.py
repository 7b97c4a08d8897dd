"""Callers with real tokens of service accounts, and a service that may review them, or may not."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from kubernetes import client
from support.cluster import Namespace, kubeconfig, namespace
from support.service import Service

pytestmark = pytest.mark.cluster

AUDIENCE = "executor"
CALL = {"command": "echo hello"}


class Accounts:
    """Service accounts of a namespace."""

    def __init__(self, space: Namespace) -> None:
        self._space = space

    def make(self, name: str) -> None:
        """Create one."""
        self._space.core.create_namespaced_service_account(self._space.name, {"metadata": {"name": name}})

    def delete(self, name: str) -> None:
        """Delete it."""
        self._space.core.delete_namespaced_service_account(name, self._space.name)

    def token(self, name: str = "default", *audiences: str) -> str:
        """A token for these audiences; for the API server if there are none."""
        spec: dict[str, Any] = {"spec": {"audiences": list(audiences), "expirationSeconds": 600}}
        asked = self._space.core.create_namespaced_service_account_token(name, self._space.name, spec)
        token: str = asked.status.token
        return token


@pytest.fixture
def accounts(own_namespace: Namespace) -> Accounts:
    return Accounts(own_namespace)


@pytest.fixture(scope="module")
def reviewer(own_namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A kubeconfig of an account that may review tokens, and nothing else."""
    name = f"{own_namespace.name}-reviewer"
    accounts = Accounts(own_namespace)
    accounts.make("reviewer")
    rbac = client.RbacAuthorizationV1Api()
    rule = {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}
    rbac.create_cluster_role({"metadata": {"name": name}, "rules": [rule]})
    subject = {"kind": "ServiceAccount", "name": "reviewer", "namespace": own_namespace.name}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    rbac.create_cluster_role_binding({"metadata": {"name": name}, "subjects": [subject], "roleRef": role})
    try:
        yield _written(tmp_path_factory.mktemp("reviewer"), accounts.token("reviewer"))
    finally:
        rbac.delete_cluster_role_binding(name)
        rbac.delete_cluster_role(name)
        accounts.delete("reviewer")


@pytest.fixture(scope="module")
def service(reviewer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    flags = ("--kubeconfig", str(reviewer), "--token-review-audience", AUDIENCE)
    with Service(tmp_path_factory.mktemp("service"), *flags) as found:
        yield found


def _written(folder: Path, token: str) -> Path:
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig(token)))
    return path


def _run(service: Service, token: str) -> httpx.Response:
    return service.client.post("/execute", json=CALL, headers=_shown(token))


def _shown(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_an_account_calls_for_its_namespace(service: Service, accounts: Accounts) -> None:
    """A token that the cluster made for us opens; an account of another namespace does not see what was run."""
    answer = _run(service, accounts.token("default", AUDIENCE))
    assert (answer.status_code, answer.json()["stdout"]) == (200, "hello\n")
    path = f"/executions/{answer.json()['id']}"
    accounts.make("second")
    again = service.client.get(path, headers=_shown(accounts.token("second", "other", AUDIENCE)))
    assert again.status_code == 200
    with namespace() as other:
        stranger = Accounts(other).token("default", AUDIENCE)
        assert service.client.get(path, headers=_shown(stranger)).status_code == 404
        assert _run(service, stranger).status_code == 200


def test_tokens_that_are_not_for_us(service: Service, accounts: Accounts, own_namespace: Namespace) -> None:
    """Of another audience, of the API server's own, without an end, altered, or of an account that is gone."""
    accounts.make("gone")
    bad = {
        "another audience": accounts.token("default", "vault"),
        "the API server's": accounts.token("default"),
        "without an end": _endless(own_namespace),
        "altered": accounts.token("default", AUDIENCE)[:-8] + "AAAAAAAA",
        "gone": accounts.token("gone", AUDIENCE),
    }
    accounts.delete("gone")
    assert {name: _run(service, token).status_code for name, token in bad.items()} == dict.fromkeys(bad, 401)


def test_without_the_right(accounts: Accounts, reviewer: Path, tmp_path: Path) -> None:
    """Nobody gets in, and `doctor` names the verb; with the right it is content."""
    mere = _written(tmp_path, accounts.token("default"))
    with Service(tmp_path, "--kubeconfig", str(mere), "--token-review-audience", AUDIENCE) as service:
        answer = _run(service, accounts.token("default", AUDIENCE))
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    found = {path: _doctor(path) for path in (mere, reviewer)}
    assert found[reviewer]["verdict"] == "ok"
    assert found[mere]["verdict"] == "fail"
    assert "may not create tokenreviews.authentication.k8s.io" in found[mere]["text"]


def _doctor(path: Path) -> dict[str, str]:
    command = [sys.executable, "-m", "executor_api", "doctor", "--json", "--kubeconfig", str(path)]
    done = subprocess.run(
        [*command, "--token-review-audience", AUDIENCE], stdout=subprocess.PIPE, timeout=100, check=False
    )
    found: list[dict[str, str]] = [item for item in json.loads(done.stdout) if item["check"] == "token review"]
    return found[0]


def _endless(space: Namespace) -> str:
    """The token of a Secret, as clusters used to make them."""
    annotations = {"kubernetes.io/service-account.name": "default"}
    secret = {"metadata": {"name": "old", "annotations": annotations}, "type": "kubernetes.io/service-account-token"}
    space.core.create_namespaced_secret(space.name, secret)
    space.wait(lambda: space.core.read_namespaced_secret("old", space.name).data)
    return base64.b64decode(space.core.read_namespaced_secret("old", space.name).data["token"]).decode()
