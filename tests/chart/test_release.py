"""The chart on a real cluster: it serves, keeps what it must, and leaves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from chart.helm import Values
from chart.release import Release, release, until
from executor_api.backends.kubernetes import names

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


def test_sandboxes_are_shut_in_to_their_end() -> None:
    """From the uninstallation until the last sandbox is gone, the policy that denies it all traffic is there."""
    with release() as found:
        found.install({**POOL, **SMALL})
        until(lambda: len(found.waiting()) == 2, found.waiting)
        assert not found.open()
        found.uninstall()

        def gone() -> bool:
            assert not found.open()
            return not found.left()

        until(gone, found.left)


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
    container = next(item for item in pods.items[0].spec.containers if item.name == names.CONTAINER)
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": 60,
        "automountServiceAccountToken": False,
        "serviceAccountName": "executor-sandbox",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "image": container.image, "securityContext": security}],
    }


LABELS = {names.NAME: names.SANDBOX}


def _refusal(found: Release, spec: dict[str, Any], labels: dict[str, str] = LABELS) -> str:
    """Why the API server would not create the pod; empty if it would."""
    pod = {"metadata": {"generateName": "test-", "labels": labels}, "spec": _set(spec)}
    return _problem(lambda: found.core.create_namespaced_pod(found.sandboxes, pod, dry_run="All"))


def _refusal_of_job(found: Release, spec: dict[str, Any], labels: dict[str, str] = LABELS, **job: Any) -> str:
    """The same of a Job with that pod."""
    template = {"metadata": {"labels": labels}, "spec": _set(spec)}
    ends = {"activeDeadlineSeconds": 60, "ttlSecondsAfterFinished": 60}
    whole = {"metadata": {"generateName": "test-"}, "spec": {**_set({**ends, **job}), "template": template}}
    return _problem(lambda: client.BatchV1Api().create_namespaced_job(found.sandboxes, whole, dry_run="All"))


def _set(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in spec.items() if item is not None}


def _problem(request: Callable[[], object]) -> str:
    try:
        request()
    except ApiException as error:
        return str(error.body)
    return ""


_TOKEN = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
_SECRET = {"name": "s", "projected": {"sources": [{"secret": {"name": "s"}}]}}
_VOLUMES = [
    {"name": "a", "emptyDir": {}},
    {"name": "b", "configMap": {"name": "b"}},
    {"name": "c", "projected": {"sources": [{"configMap": {"name": "c"}}]}},
]
CASES: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"volumes": _VOLUMES}, ""),
    ({"activeDeadlineSeconds": None}, "needs activeDeadlineSeconds"),
    ({"automountServiceAccountToken": True}, "no service account token"),
    ({"automountServiceAccountToken": None}, "no service account token"),
    ({"volumes": [_TOKEN]}, "no service account token"),
    ({"serviceAccountName": "default"}, "runs as executor-sandbox"),
    ({"volumes": [{"name": "s", "secret": {"secretName": "s"}}]}, "no Secret"),
    ({"volumes": [_SECRET]}, "no Secret"),
]
NAMES = [
    *("as sandboxes are", "volumes", "no deadline", "a token", "an account's default", "a projected token"),
    *("another account", "a Secret", "a projected Secret"),
]


@pytest.mark.parametrize(("change", "message"), CASES, ids=NAMES)
def test_only_sandboxes_are_admitted(guarded: Release, change: dict[str, Any], message: str) -> None:
    """A pod, alone or of a Job, that differs from sandboxes in one thing is refused by that; one like them is not."""
    spec = {**_spec(guarded), **change}
    for refusal in (_refusal(guarded, spec), _refusal_of_job(guarded, spec)):
        assert message in refusal
        assert bool(refusal) is bool(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "a"}}}]}, "from a Secret"),
        ({"envFrom": [{"secretRef": {"name": "s"}}]}, "from a Secret"),
        ({"ports": [{"containerPort": 80, "hostPort": 80}]}, "nothing of its node"),
        ({"securityContext": {"privileged": True}}, "not privileged"),
        ({"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}, "adds no capability"),
    ],
    ids=["a variable", "variables", "a port", "privileged", "a capability"],
)
def test_containers_are_bounded(guarded: Release, change: dict[str, Any], message: str) -> None:
    """A Job whose container takes a Secret, a port of the node or rights is refused; so is its init container."""
    spec = _spec(guarded)
    (container,) = spec["containers"]
    other = {**container, "name": "b", **change}
    for more in ({"containers": [container, other]}, {"initContainers": [other]}):
        assert message in _refusal_of_job(guarded, {**spec, **more})


def test_jobs_get_nothing_of_the_node(guarded: Release) -> None:
    """A Job whose pod would share its node's network, processes or files is refused, and so is one without an end."""
    spec = _spec(guarded)
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        assert "nothing of its node" in _refusal_of_job(guarded, {**spec, field: True})
    path = {"name": "a", "hostPath": {"path": "/"}}
    assert "nothing of the node" in _refusal_of_job(guarded, {**spec, "volumes": [path]})
    for field in ("activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        assert "a Job here needs" in _refusal_of_job(guarded, spec, **{field: None})


def test_pods_keep_the_label_that_policies_select(guarded: Release) -> None:
    """None comes in without it, alone or by a Job, and none that is there loses it or gets another container."""
    for refusal in (_refusal(guarded, _spec(guarded), {}), _refusal_of_job(guarded, _spec(guarded), {})):
        assert "has the label app.kubernetes.io/name=executor-sandbox" in refusal
    selector = f"{names.NAME}={names.SANDBOX}"
    pod = guarded.core.list_namespaced_pod(guarded.sandboxes, label_selector=selector).items[0].metadata.name
    at: dict[str, Any] = {"name": pod, "namespace": guarded.sandboxes, "dry_run": "All"}
    body = {"metadata": {"labels": {names.NAME: None}}}
    assert "has the label" in _problem(lambda: guarded.core.patch_namespaced_pod(body=body, **at))
    body = {"metadata": {"labels": {"example.org/other": "1"}}}
    assert _problem(lambda: guarded.core.patch_namespaced_pod(body=body, **at)) == ""
    (container,) = _spec(guarded)["containers"]
    more = {"spec": {"ephemeralContainers": [container]}}
    refusal = _problem(lambda: guarded.core.patch_namespaced_pod_ephemeralcontainers(body=more, **at))
    assert "can't have ephemeral containers" in refusal


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
