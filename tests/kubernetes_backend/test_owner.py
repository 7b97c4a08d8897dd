"""What a service makes in the cluster has an owner there, whose deletion takes all of it along."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from executor_api.backends.kubernetes.backend import KubernetesBackend
from executor_api.backends.kubernetes.settings import KubernetesSettings
from executor_api.domain.pool_settings import PoolSettings
from executor_api.domain.template import Template
from kubernetes_backend.fake_apiserver import NAMESPACE
from kubernetes_backend.fake_objects import Object
from kubernetes_backend.world import MASTER_KEY, World, claim_of, until

OWNER = "release-owner"


@pytest.fixture
async def owned(world: World) -> AsyncIterator[KubernetesBackend]:
    settings = KubernetesSettings(
        master_key=MASTER_KEY,
        namespace=NAMESPACE,
        image="sandbox:1",
        kubeconfig=str(world.kubeconfig()),
        owner_lease=OWNER,
    )
    backend = KubernetesBackend(settings, {}, check_seconds=0.1)
    backend.use_templates({"default": Template(name="default", pool=PoolSettings(size=1))})
    await backend.start()
    yield backend
    await backend.stop()


async def _put_owner(world: World, uid: str) -> None:
    await world.api.objects.put("leases", {"metadata": {"name": OWNER, "uid": uid}, "spec": {}})


def _owners(thing: Object) -> list[tuple[str, str, str]]:
    return [(item["kind"], item["name"], item["uid"]) for item in thing["metadata"].get("ownerReferences", ())]


async def test_all_that_is_made_is_owned(world: World, owned: KubernetesBackend) -> None:
    """The pool's Jobs, a call's Job and the leader's Lease name the owner; its own Lease does not change."""
    await _put_owner(world, "u-1")
    await until(lambda: owned.health().ready and world.waiting())
    await (await owned.create("x-1", claim_of())).ready()
    others = [lease for lease in world.api.objects.all("leases") if lease["metadata"]["name"] != OWNER]
    made = [*world.api.objects.all("jobs"), *others]
    assert [_owners(thing) for thing in made] == [[("Lease", OWNER, "u-1")]] * len(made)
    assert len(made) >= 3
    owner = world.api.objects.get("leases", OWNER)
    assert owner is not None
    assert owner["spec"] == {}


async def test_missing_owner_is_waited_for(world: World, owned: KubernetesBackend) -> None:
    """Without its owner the service makes nothing, says what to do, and begins once it is there."""
    await until(lambda: "there is no Lease release-owner" in "".join(owned.health().problems))
    assert not owned.health().ready
    assert world.api.objects.all("jobs") == []
    await _put_owner(world, "u-1")
    await until(lambda: owned.health().ready)


async def test_owner_that_was_made_anew(world: World, owned: KubernetesBackend) -> None:
    """An owner that was deleted is missed, and what is made under its successor belongs to that one."""
    await _put_owner(world, "u-1")
    await until(lambda: owned.health().ready)
    await world.api.objects.remove("leases", OWNER)
    await until(lambda: "there is no Lease release-owner" in "".join(owned.health().problems))
    await _put_owner(world, "u-2")
    await until(lambda: owned.health().ready)
    await owned.create("x-2", claim_of())
    job = world.api.objects.get("jobs", "x-2")
    assert job is not None
    assert _owners(job) == [("Lease", OWNER, "u-2")]


async def test_owner_that_may_not_be_read(world: World, owned: KubernetesBackend) -> None:
    """A Role without `get` on Leases is named as the reason."""
    world.api.leases.denied.add("get")
    await until(lambda: "to get leases.coordination.k8s.io" in "".join(owned.health().problems))
