"""An API server that goes away, forgets, stalls or cuts, while calls run and after a restart of the service."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from executor_api.backends.base import Claim
from executor_api.backends.kubernetes import rehearsal
from executor_api.errors import UnavailableError
from executor_runner.protocol.frames import FrameKind
from kubernetes_backend.fake_apiserver import PODS, status
from kubernetes_backend.world import World, arrived, claim_of, plan_of, read, ready, until


async def test_call_outlives_an_outage(world: World) -> None:
    """A call over the pod's IP does not notice that the API server is away; what it missed is learned after."""
    backend = await world.started()
    sandbox = await ready(backend)
    runner = world.runners["x-1"]
    reading = asyncio.create_task(read(sandbox.dispatch(b"{}")))
    await runner.claimed.wait()
    await world.api.stop()
    await until(lambda: not backend.health().ready)
    await runner.write(FrameKind.STDOUT, b"1\n")
    await runner.finish()
    assert await reading == bytes(runner.journal)
    await world.end_pod("x-1")
    assert await sandbox.alive(), "nobody could tell"
    await world.api.start()
    await until(lambda: backend.health().ready)
    assert (await sandbox.last_words()).source == "evidence"  # once the watch has told of the end
    assert not await sandbox.alive()


async def test_job_can_be_made_after_an_outage(world: World) -> None:
    """Creating waits out a short outage; the name makes sure that there is one Job."""
    backend = await world.started()
    await world.api.stop()
    creating = asyncio.create_task(backend.create("x-1", claim_of()))
    await until(lambda: not backend.health().ready)
    await world.api.start()
    await (await creating).ready()
    assert len(world.api.objects.all("jobs")) == 1


async def test_cut_watch_goes_on_where_it_was(world: World) -> None:
    """A watch cut in the middle of an event is taken up again without another listing."""
    backend = await world.started()
    world.running = False
    sandbox = await backend.create("x-1", claim_of())
    await world.pod("x-1")
    listings = _listings(world)
    world.api.cut_watches()
    await world.run_pod("x-1")
    await sandbox.ready()
    assert _listings(world) == listings


async def test_forgotten_version_means_a_new_listing(world: World) -> None:
    """When the API server has compacted its history, a listing tells what changed, deletions included."""
    backend = await world.started()
    first, second = await ready(backend, "x-1"), await ready(backend, "x-2")
    await world.api.stop()
    await until(lambda: not backend.health().ready)
    await world.api.objects.remove("pods", "x-1-abcde")
    world.api.objects.compact()
    await world.api.start()
    await until(lambda: backend.health().ready)
    assert "deleted" in (await first.last_words()).evidence.message
    assert (await first.alive(), await second.alive()) == (False, True)


async def test_refused_watch_is_tried_again(world: World) -> None:
    """A listing that fails for a while is asked again until it works."""
    world.api.fail("GET", PODS, lambda: status(503, "ServiceUnavailable", "not yet"), times=3)
    await ready(await world.started())


async def test_restarted_service_takes_up_the_call(world: World) -> None:
    """Another process with the same key finds the sandbox and reads its journal from where the first one stopped."""
    sandbox = await ready(await world.started())
    runner = world.runners["x-1"]
    reading = asyncio.create_task(read(sandbox.dispatch(b"{}")))
    await runner.claimed.wait()
    await runner.write(FrameKind.STDOUT, b"before")
    reading.cancel()
    found = await (await world.started()).find("x-1", "e-x-1")
    assert found is not None
    await found.ready()
    await runner.finish()
    assert await read(found.resume(0)) == bytes(runner.journal)


async def test_sandbox_that_never_was_is_not_found(world: World) -> None:
    """A name without a Job is None; an API server that is away is an error, not None."""
    backend = await world.started()
    assert await backend.find("x-9", "e-x-9") is None
    await world.api.stop()
    with pytest.raises(UnavailableError):
        await backend.find("x-9", "e-x-9")


async def test_garbage_is_what_no_execution_wants(world: World) -> None:
    """Only unwanted Jobs of this service go, with their pods; another service's stay."""
    backend = await world.started()
    for name in ("x-1", "x-2"):
        await ready(backend, name)
    await ready(await world.started(owner="another"), "x-3")

    async def is_wanted(execution_id: str) -> bool:
        return execution_id == "e-x-1"

    assert await backend.collect_garbage(is_wanted) == 1
    assert {job["metadata"]["name"] for job in world.api.objects.all("jobs")} == {"x-1", "x-3"}
    assert {pod["metadata"]["name"] for pod in world.api.objects.all("pods")} == {"x-1-abcde", "x-3-abcde"}


@pytest.mark.parametrize(("age", "deleted"), [(5, 0), (200, 1)])
async def test_what_another_replica_tries_out_is_no_garbage_yet(world: World, age: float, deleted: int) -> None:
    """Its rehearsals go on; what it leaves behind when it dies is collected in a while."""
    backend = await world.started()
    await backend.create("rehearsal-1", Claim(rehearsal.EXECUTION, "", plan_of()))
    job = world.api.objects.get("jobs", "rehearsal-1")
    assert job is not None
    made = datetime.now(UTC) - timedelta(seconds=age)
    job["metadata"]["creationTimestamp"] = made.strftime("%Y-%m-%dT%H:%M:%SZ")
    await world.api.objects.put("jobs", job)
    await arrived()

    async def nobody(_execution_id: str) -> bool:
        return False

    assert await backend.collect_garbage(nobody) == deleted


def _listings(world: World) -> int:
    return sum(1 for method, path in world.api.requests if method == "GET" and PODS in path and "watch=" not in path)
