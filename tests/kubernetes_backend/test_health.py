"""A cluster that can't be used yet: one sentence each, with the fix, and no restart needed once it is mended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from executor_api.backends.kubernetes.backend import KubernetesBackend
from executor_api.backends.kubernetes.settings import KubernetesSettings
from executor_api.errors import UnavailableError
from kubernetes_backend.world import MASTER_KEY, World, plan_of, until


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
            await backend.create("x-1", "e-1", plan_of())
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
    await (await backend.create("x-1", "e-1", plan_of())).ready()


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
