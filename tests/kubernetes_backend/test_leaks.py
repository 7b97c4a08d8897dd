"""A call whose GPU memory does not come back: its node is kept out of the pools, by every replica, for a while."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from executor_api.backends.base import Claim
from executor_api.backends.kubernetes import names
from executor_api.backends.kubernetes.backend import KubernetesBackend
from executor_api.backends.kubernetes.leaks import QUARANTINE_SECONDS, Leaks
from executor_api.backends.kubernetes.sandbox import KubernetesSandbox
from executor_api.backends.kubernetes.snapshot import parse_job, parse_pod
from executor_api.domain.plan import plan
from executor_api.domain.pool_settings import PoolSettings
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.template import GpuAllowance, Template
from kubernetes_backend.world import World, read, until

WITH_GPU = Template(name="gpu", pool=PoolSettings(size=2), gpu=GpuAllowance(count=1, max_count=1))
WITHOUT = Template(name="cpu", pool=PoolSettings(size=1))


def claim(execution_id: str) -> Claim:
    return Claim(execution_id, "t", plan(ExecutionRequest(code="1", template="gpu"), {"gpu": WITH_GPU}))


async def leak(world: World, backend: KubernetesBackend, node: str | None = "node-2") -> str:
    """Have a call leak where pods run now; those made later run on this node, if any. Returns the call's Job."""
    sandbox = await backend.claim(claim("e-1"))
    assert isinstance(sandbox, KubernetesSandbox)
    name = sandbox.details.name
    runner = world.runners[name]
    runner.execution_id = "e-1"
    reading = asyncio.create_task(read(sandbox.dispatch(b'{"execution_id": "e-1"}')))
    await runner.claimed.wait()
    await runner.finish()
    await reading
    await until(lambda: all(pool.ready == pool.desired for pool in backend.pools()))
    world.node, world.pool_running = node or "", node is not None
    await sandbox.release(sound=False, leaky=True)
    await world.end_pod(name)
    return name


def jobs(world: World, template: str) -> list[dict[str, Any]]:
    """Those of a template's pool."""
    found = [world.api.objects.get("jobs", name) for name in world.waiting()]
    return [job for job in found if job is not None and job["metadata"]["labels"][names.TEMPLATE] == template]


def problems(backend: KubernetesBackend, template: str) -> tuple[str, ...]:
    return next(pool.problems for pool in backend.pools() if pool.template == template)


async def test_every_replica_keeps_off_the_node_of_a_leak(world: World) -> None:
    """What waits there is replaced by what is made elsewhere, whichever replica saw the leak; other pools stay."""
    keeper = await world.pooled(WITH_GPU, WITHOUT)
    witness = await world.pooled(WITH_GPU, WITHOUT)
    before = {job["metadata"]["name"] for job in jobs(world, "gpu")}
    (other,) = jobs(world, "cpu")
    leaking = await leak(world, witness)

    def nodes() -> list[str | None]:
        return [job["metadata"]["annotations"].get(names.KEEPS_OFF) for job in jobs(world, "gpu")]

    await until(lambda: nodes() == ["node-1"] * 2)
    assert not before & {job["metadata"]["name"] for job in jobs(world, "gpu")}
    assert jobs(world, "cpu") == [other]
    for backend in (keeper, witness):
        await until(lambda backend=backend: all(pool.ready == pool.desired for pool in backend.pools()))
        (said,) = problems(backend, "gpu")
        assert said.startswith("it keeps off node node-1, where memory of a GPU did not come back after a call; ")
        assert leaking in said
        assert problems(backend, "cpu") == ()
        await until(lambda backend=backend: next(pool.taken for pool in backend.pools() if pool.template == "gpu") == 0)


async def test_the_job_of_a_leak_stays_for_a_while_and_a_restarted_service_learns_from_it(world: World) -> None:
    """It is left to its TTL, also by garbage collection; a service that starts then keeps off the node as well."""
    leaking = await leak(world, await world.pooled(WITH_GPU))
    job = world.api.objects.get("jobs", leaking)
    assert job is not None
    assert job["spec"]["ttlSecondsAfterFinished"] == QUARANTINE_SECONDS
    assert job["metadata"]["labels"][names.GPU_LEAK] == "true"
    restarted = await world.pooled(WITH_GPU)
    await until(lambda: problems(restarted, "gpu"))

    async def nobody(_execution_id: str) -> bool:
        return False

    await restarted.collect_garbage(nobody)
    assert world.api.objects.get("jobs", leaking) is not None


async def test_a_node_is_left_as_long_as_the_job_is_there(world: World) -> None:
    """Whoever drains the node deletes the pod of the leak, of which nothing is known any more a while later."""
    leaking = await leak(world, await world.pooled(WITH_GPU))
    stored, pod = world.api.objects.get("jobs", leaking), await world.pod(leaking)
    assert stored is not None
    job, leaks = parse_job(stored), Leaks()
    leaks.look(job, parse_pod(pod))
    leaks.look(job, None)
    assert leaks.nodes == {"node-1"}
    leaks.look(replace(job, gone=True), None)
    assert leaks.nodes == set()


async def test_a_service_that_starts_when_the_pod_is_gone_learns_the_node_from_the_job(world: World) -> None:
    """As after a drain: the Job itself names its node, until it goes."""
    leaking = await leak(world, await world.pooled(WITH_GPU))
    await world.api.objects.remove("pods", (await world.pod(leaking))["metadata"]["name"])
    restarted = await world.pooled(WITH_GPU)
    await until(lambda: problems(restarted, "gpu"))
    (said,) = problems(restarted, "gpu")
    assert said.startswith("it keeps off node node-1, ")
    await world.api.objects.remove("jobs", leaking)
    await until(lambda: problems(restarted, "gpu") == ())


async def test_a_mended_node_is_used_again(world: World) -> None:
    """Once the Job of the leak is gone, what found no other node is made anew, for any node."""
    backend = await world.pooled(WITH_GPU)
    leaking = await leak(world, backend, node=None)
    await until(lambda: [names.KEEPS_OFF in job["metadata"]["annotations"] for job in jobs(world, "gpu")] == [True] * 2)
    stuck = {job["metadata"]["name"] for job in jobs(world, "gpu")}
    text = "1 node(s) didn't match Pod's node affinity/selector"
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": text}
    for name in stuck:
        await world.change_pod(name, conditions=[condition])
    await world.api.objects.remove("jobs", leaking)
    world.node, world.pool_running = "node-1", True
    await until(lambda: not stuck & set(world.waiting()) and backend.pools()[0].ready == 2)
    assert not any(names.KEEPS_OFF in job["metadata"]["annotations"] for job in jobs(world, "gpu"))
    assert problems(backend, "gpu") == ()


async def test_a_call_of_its_own_keeps_off_the_node_as_well(world: World) -> None:
    """A sandbox made for a call says so, too; one without a GPU goes where it likes."""
    backend = await world.pooled(WITH_GPU)
    await leak(world, backend)
    await until(lambda: problems(backend, "gpu"))
    await backend.create("x-1", claim("e-2"))
    cpu = ExecutionRequest(code="1", template="cpu")
    await backend.create("x-2", Claim("e-3", "t", plan(cpu, {"cpu": WITHOUT})))
    told = [
        world.api.objects.get("jobs", name)["metadata"]["annotations"].get(names.KEEPS_OFF) for name in ("x-1", "x-2")
    ]
    assert told == ["node-1", None]
