"""A cluster that can't be used yet: one sentence each, with the fix, and no restart needed once it is mended."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from executor_api.backends.base import SandboxFailedError
from executor_api.backends.kubernetes.backend import KubernetesBackend
from executor_api.backends.kubernetes.settings import KubernetesSettings
from executor_api.errors import UnavailableError
from kubernetes_backend.fake_apiserver import FakeApiServer, status
from kubernetes_backend.fake_objects import Object
from kubernetes_backend.world import MASTER_KEY, World, claim_of, until


async def _problem(backend: KubernetesBackend, part: str) -> str:
    """The one problem that it reports, once that says the expected."""
    await backend.start()
    await until(lambda: any(part in text for text in backend.health().problems))
    (problem,) = backend.health().problems
    assert not backend.health().ready
    return problem


def _backend_with(kubeconfig: Path) -> KubernetesBackend:
    return KubernetesBackend(KubernetesSettings(master_key=MASTER_KEY, kubeconfig=str(kubeconfig)), {})


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda path: path.unlink(), "does not exist; name one with --kubeconfig"),
        (lambda path: path.write_text(": ["), "check it with `kubectl config view`"),
        (lambda path: path.write_text("[]"), "check it with `kubectl config view`"),
        (lambda path: path.write_text("{current-context: nope, contexts: []}"), "nope"),
    ],
    ids=["missing", "no yaml", "no mapping", "no such context"],
)
async def test_bad_kubeconfig(world: World, spoil: Callable[[Path], object], part: str) -> None:
    """A kubeconfig that can't be used is named, and calls are told so."""
    path = world.kubeconfig()
    spoil(path)
    backend = _backend_with(path)
    try:
        assert str(path) in await _problem(backend, part)
        with pytest.raises(UnavailableError, match="kubeconfig"):
            await backend.create("x-1", claim_of())
    finally:
        await backend.stop()


async def test_unreachable_api_server(world: World) -> None:
    """An API server that is away is named with its address; once it is there, the service is ready by itself."""
    backend = world.backend()
    await world.api.stop()
    assert world.api.url in await _problem(backend, "can't be reached")
    await world.api.start()
    await until(lambda: backend.health().ready)


async def test_refused_credentials(world: World) -> None:
    """A 401 names where the credentials come from."""
    backend = world.backend()
    world.api.token = "another"  # noqa: S105 - of the fake
    assert "kubeconfig" in await _problem(backend, "does not accept the credentials")


async def test_renewed_credentials_are_picked_up(world: World) -> None:
    """When the token changes in the kubeconfig, the first 401 makes the service read it again."""
    backend = await world.started()
    world.api.token = "renewed"  # noqa: S105 - of the fake
    world.kubeconfig()
    await (await backend.create("x-1", claim_of())).ready()


async def test_exec_plugin_gives_the_token(world: World, tmp_path: Path) -> None:
    """Credentials of an exec plugin, as clouds have them, are asked for and used."""
    plugin = tmp_path / "plugin"
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": world.api.token},
    }
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    plugin.chmod(0o700)
    backend = world.backend(user={"exec": {"apiVersion": answer["apiVersion"], "command": str(plugin)}})
    await backend.start()
    await until(lambda: backend.health().ready)


async def test_missing_rights_are_listed(world: World) -> None:
    """Every verb that RBAC lacks is in the sentence."""
    world.api.denied = {"create jobs", "get pods/log"}
    problem = await _problem(world.backend(), "RBAC")
    assert "create jobs.batch, get pods/log in namespace sandboxes" in problem


async def test_missing_namespace(world: World) -> None:
    """A namespace that does not exist is found out without rights on namespaces."""
    world.api.namespace_exists = False
    assert "--namespace" in await _problem(world.backend(), "namespace sandboxes does not exist")
    assert world.api.objects.all("jobs") == []


async def test_missing_image(world: World) -> None:
    """An image that can't be pulled is found out before a call needs it, and its coming is noticed."""
    world.api.script = world.play_missing_image
    backend = world.backend()
    problem = await _problem(backend, "can't be pulled")
    assert problem.startswith("image sandbox:1 can't be pulled (ErrImagePull: manifest unknown)")
    await until(lambda: world.api.objects.all("jobs") == [])  # its own, and that of the network's check beside it
    world.api.script = world.play
    await until(lambda: backend.health().ready)


async def test_image_of_a_template_only_concerns_its_calls(world: World) -> None:
    """Another template's missing image is a note: calls of other templates run."""
    backend = await world.started()
    world.api.script = world.play_missing_image
    sandbox = await backend.create("x-1", claim_of(image="other:1"))
    with pytest.raises(SandboxFailedError):
        await sandbox.ready()
    assert backend.health().ready
    assert any("other:1" in note for note in backend.health().notes)


async def test_runners_out_of_reach(world: World) -> None:
    """Where neither way leads to a runner, the service says so before it takes a call."""
    world.pod_ip = await world.stranger()
    world.api.fail("GET", "/proxy/", lambda: status(403, "Forbidden", "cannot get resource pods/proxy"), times=99)
    problem = await _problem(world.backend(), "runners can't be reached")
    assert "pods/proxy" in problem


async def test_policy_that_refuses_sandboxes(world: World) -> None:
    """Admission that refuses every sandbox shows at start, with the server's words."""

    async def play(api: FakeApiServer, job: Object) -> None:
        message = "Error creating: pods is forbidden: violates PodSecurity"
        await api.event("Job", job["metadata"]["name"], "FailedCreate", message)

    world.api.script = play
    assert "violates PodSecurity" in await _problem(world.backend(), "the cluster refuses sandboxes")


async def test_full_cluster_is_no_problem_of_the_service(world: World) -> None:
    """A quota that is used up at start does not keep the service from taking calls that wait for room."""

    async def play(api: FakeApiServer, job: Object) -> None:
        await api.event("Job", job["metadata"]["name"], "FailedCreate", "pods is forbidden: exceeded quota: all")

    world.api.script = play
    await world.started()
