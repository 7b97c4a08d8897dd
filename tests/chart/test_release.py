"""The chart on a real cluster: it serves, keeps what it must, and leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from chart.helm import Values
from chart.release import Release, release, until
from executor_api.backends.kubernetes.names import CONTAINER

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

POOL: Values = {"templates": {"default": {"pool": {"size": 2}}}}
SMALL: Values = {"resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}


@pytest.mark.parametrize("one_namespace", [False, True], ids=["two namespaces", "one namespace"])
def test_release_serves_and_leaves_nothing(*, one_namespace: bool) -> None:
    """`helm test` makes its call; an upgrade and a rollback keep keys and waiting sandboxes; uninstalling takes all."""
    with release(one_namespace=one_namespace) as found:
        found.install({**POOL, **SMALL})
        assert "'42\\n'" in found.test()
        until(lambda: len(found.waiting()) == 2, found.waiting)
        keys, sandboxes = found.secrets(), found.waiting()
        assert keys.keys() == {"executor-api-key", "executor-master-key"}
        found.upgrade({**POOL, **SMALL, "podAnnotations": {"example.org/change": "1"}})
        assert found.secrets() == keys
        assert found.waiting() == sandboxes, "the next pod is the same service, and its pool is as it was"
        found.rollback()
        assert found.secrets() == keys
        assert "'42\\n'" in found.test()
        found.uninstall()
        until(lambda: not found.left(), found.left)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Release]:
    """A release whose sandboxes' namespace admits nothing else."""
    with release() as found:
        found.install({**POOL, **SMALL, "sandbox": {"admissionPolicy": {"enabled": True}}})
        until(lambda: len(found.waiting()) == 2, found.waiting)
        yield found


def _spec(found: Release) -> dict[str, Any]:
    """A pod like those of sandboxes."""
    pods = found.core.list_namespaced_pod(found.sandboxes, label_selector="app.kubernetes.io/name=executor-sandbox")
    container = next(item for item in pods.items[0].spec.containers if item.name == CONTAINER)
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": 60,
        "automountServiceAccountToken": False,
        "serviceAccountName": "executor-sandbox",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "image": container.image, "securityContext": security}],
    }


def _refusal(found: Release, spec: dict[str, Any]) -> str:
    """Why the API server would not create it; empty if it would."""
    pod = {"metadata": {"generateName": "test-"}, "spec": {key: item for key, item in spec.items() if item is not None}}
    try:
        found.core.create_namespaced_pod(found.sandboxes, pod, dry_run="All")
    except ApiException as error:
        return str(error.body)
    return ""


_TOKEN = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, ""),
        ({"activeDeadlineSeconds": None}, "needs activeDeadlineSeconds"),
        ({"automountServiceAccountToken": True}, "no service account token"),
        ({"automountServiceAccountToken": None}, "no service account token"),
        ({"volumes": [_TOKEN]}, "no service account token"),
        ({"serviceAccountName": "default"}, "runs as executor-sandbox"),
    ],
    ids=["as sandboxes are", "no deadline", "a token", "an account's default", "a projected token", "another account"],
)
def test_only_sandboxes_are_admitted(guarded: Release, change: dict[str, Any], message: str) -> None:
    """A pod that differs from sandboxes in one thing is refused by that, and one that does not is let in."""
    refusal = _refusal(guarded, {**_spec(guarded), **change})
    assert message in refusal
    assert bool(refusal) is bool(message)


def test_other_images_are_not_admitted(guarded: Release) -> None:
    """An image that no value names is refused by its name, in a container and in an init container."""
    spec = _spec(guarded)
    (container,) = spec["containers"]
    other = {**container, "name": "b", "image": "example.org/other:1"}
    for more in ({"containers": [container, other]}, {"initContainers": [other]}):
        assert "example.org/other:1; add it to sandbox.admissionPolicy.images" in _refusal(guarded, {**spec, **more})


def test_what_was_admitted_can_end(guarded: Release) -> None:
    """Sandboxes of an image that is admitted no more still go away, and so does everything with the release."""
    before = guarded.waiting()
    pods = {pod.metadata.name for pod in guarded.core.list_namespaced_pod(guarded.sandboxes).items}
    account: Values = {"serviceAccount": {"name": "other"}, "admissionPolicy": {"enabled": True}}
    guarded.upgrade({**POOL, **SMALL, "sandbox": account})
    until(lambda: len(guarded.waiting() - before) == 2, guarded.waiting)

    def there() -> set[str]:
        return pods & {pod.metadata.name for pod in guarded.core.list_namespaced_pod(guarded.sandboxes).items}

    until(lambda: not there(), there)
    guarded.uninstall()
    until(lambda: not guarded.left(), guarded.left)
