"""Warm pools: filled, claimed from, refilled, and what goes wrong with them."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from executor_api.backends.base import Claim, ConnectionLostError, Miss, NotTakenError
from executor_api.backends.kubernetes import client, names, roster
from executor_api.backends.kubernetes.backend import KubernetesBackend
from executor_api.backends.kubernetes.sandbox import KubernetesSandbox
from executor_api.domain.execution import Start
from executor_api.domain.plan import plan
from executor_api.domain.pool import PoolStatus, Share
from executor_api.domain.pool_settings import MissPolicy, PoolSettings
from executor_api.domain.request import ExecutionRequest, Isolation
from executor_api.domain.template import Template
from kubernetes_backend.fake_apiserver import FakeApiServer, status
from kubernetes_backend.fake_objects import Object
from kubernetes_backend.fake_runner import FakeRunner
from kubernetes_backend.world import World, arrived, pod_of, read, until


def template(size: int = 3, name: str = "default", **fields: Any) -> Template:
    pool = fields.pop("pool", None) or PoolSettings(size=size)
    return Template(name=name, pool=pool, **fields)


def claim(of: Template, execution_id: str = "e-1", tenant: str = "t", **request: Any) -> Claim:
    wanted = ExecutionRequest(code="1", template=of.name, **request)
    return Claim(execution_id, tenant, plan(wanted, {of.name: of}))


async def claimed(backend: KubernetesBackend, wanted: Claim) -> KubernetesSandbox:
    found = await backend.claim(wanted)
    assert isinstance(found, KubernetesSandbox), found
    return found


def call(execution_id: str) -> bytes:
    return json.dumps({"execution_id": execution_id}).encode()


def pool(backend: KubernetesBackend) -> PoolStatus:
    (found,) = backend.pools()
    return found


async def test_a_pool_fills_to_its_size_and_not_beyond(world: World) -> None:
    """As many Jobs are made as wait, each labelled so, and none of them names an execution."""
    backend = await world.pooled(template(4))
    await asyncio.sleep(0.3)  # rounds in which too many would be made
    jobs = [job for job in world.api.objects.all("jobs") if job["metadata"]["name"].startswith("p-")]
    assert len(jobs) == len(world.waiting()) == 4
    assert {job["metadata"]["labels"][names.EXECUTION] for job in jobs} == {""}
    assert (pool(backend).ready, pool(backend).starting, pool(backend).desired) == (4, 0, 4)


async def test_a_call_takes_one_that_waits_and_the_pool_is_refilled(world: World) -> None:
    """The call runs at once in a sandbox of the pool, another is made, and the used one goes with its call."""
    wanted = template(2)
    backend = await world.pooled(wanted)
    before = set(world.waiting())
    sandbox = await claimed(backend, claim(wanted))
    assert (sandbox.start, sandbox.details.name in before) == (Start.WARM, True)
    await sandbox.ready()
    runner, reading = world.runners[sandbox.details.name], await begun(world, sandbox, "e-1")
    await runner.finish()
    assert await reading == bytes(runner.journal)
    await sandbox.release()
    await until(lambda: pool(backend).ready == 2)
    assert sandbox.details.name not in world.waiting()
    assert len(set(world.waiting()) - before) == 1
    assert (pool(backend).hits, pool(backend).misses) == (1, 0)


async def test_claims_at_once_get_different_sandboxes(world: World) -> None:
    """Two replicas and many calls: no call is refused a sandbox by another call of its own process."""
    wanted = template(6)
    first, second = await world.pooled(wanted), await world.pooled(wanted)
    for backend in (first, second):
        found = await asyncio.gather(*(claimed(backend, claim(wanted, f"e-{n}")) for n in range(3)))
        assert len({sandbox.details.name for sandbox in found}) == 3


async def test_replicas_whose_calls_wait_do_not_reach_for_the_same_sandbox(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each new sandbox is meant for one of them, and nobody gets another's as long as it is left to it."""
    monkeypatch.setattr(roster, "OTHERS_SECONDS", 60.0)
    world.pool_running = False
    wanted = template(8)
    one, other = await world.pooled(wanted), await world.pooled(wanted)
    one.use_share(Share(0, 2))
    other.use_share(Share(1, 2))
    await until(lambda: all(pool(backend).starting == 8 and not pool(backend).ready for backend in (one, other)))
    calls = [
        asyncio.create_task(claimed(backend, claim(wanted, f"{who}-{n}")))
        for who, backend in (("one", one), ("other", other))
        for n in range(4)
    ]
    for name in world.waiting():
        await world.run_pod(name)
    await until(lambda: all(pool(backend).ready + pool(backend).taken == 8 for backend in (one, other)))
    await until(lambda: sum(call.done() for call in calls) >= 4)
    done = [call for call in calls if call.done()]
    assert len({call.result().details.name for call in done}) == len(done)
    for call in calls:
        call.cancel()


async def test_a_replica_takes_what_another_leaves(world: World) -> None:
    """A sandbox that its replica has no call for serves the other's, a second later."""
    wanted = template(pool=PoolSettings(size=3, miss=MissPolicy.WAIT))
    backend = await world.pooled(wanted)
    backend.use_share(Share(0, 1_000_003))  # none is meant for it
    found = await asyncio.gather(*(claimed(backend, claim(wanted, f"e-{n}")) for n in range(6)))
    assert len({sandbox.details.name for sandbox in found}) == 6


async def test_only_one_replica_keeps_the_pool(world: World) -> None:
    """Two replicas make no more sandboxes than one."""
    wanted = template(3)
    backends = [await world.pooled(wanted) for _ in range(2)]
    await asyncio.sleep(0.3)
    assert len(world.waiting()) == 3
    assert [pool(backend).ready for backend in backends] == [3, 3]


async def test_every_replica_measures_how_fast_the_pool_fills(world: World) -> None:
    """Both see the same sandboxes become ready, whoever has them made; what was there before tells nothing."""
    wanted = template(4)
    backends = [await world.pooled(wanted)]
    await until(lambda: pool(backends[0]).refill_per_second)
    backends.append(await world.pooled(wanted))
    assert pool(backends[1]).refill_per_second is pool(backends[1]).replacement_seconds is None
    world.pool_running = False
    began = time.monotonic()
    for name in world.waiting():
        await world.end_pod(name, code=137, reason="Error")
    await until(lambda: all(pool(backend).starting == 4 for backend in backends))
    started = [name for name in world.waiting() if name not in world.runners]
    for name in started:
        await asyncio.sleep(0.2)
        await world.run_pod(name)
    await until(lambda: all(pool(backend).ready == 4 for backend in backends))
    seen = pool(backends[1]).refill_per_second
    assert seen is not None
    assert 4 / (time.monotonic() - began) < seen < 5.5


async def test_a_sandbox_counts_that_another_replicas_call_was_faster_to_find(world: World) -> None:
    """It was ready, though it never answered us: a pool that is used up at once is not taken for a slow one."""
    world.pool_running = False
    wanted = template(1)
    backend = await world.pooled(wanted)
    await until(lambda: pool(backend).starting == 1)
    (name,) = world.waiting()
    world.pod_ip = await world.stranger()  # who does not answer as a runner does that has no call yet
    await world.run_pod(name)
    await until(lambda: world.strangers_requests)
    job = world.api.objects.get("jobs", name)
    assert job is not None
    job["metadata"]["labels"][names.STATE] = "claimed"
    await world.api.objects.put("jobs", job)
    await until(lambda: pool(backend).refill_per_second)


async def test_a_restarted_service_finds_its_pool(world: World) -> None:
    """The pool is in the cluster: nothing is made anew."""
    wanted = template(3)
    await (await world.pooled(wanted)).stop()
    before = set(world.waiting())
    await world.pooled(wanted)
    assert set(world.waiting()) == before


async def test_a_call_that_lasts_marks_its_job(world: World) -> None:
    """Other replicas see it as claimed, with the execution's id and a deadline of its own."""
    wanted = template(1)
    backend = await world.pooled(wanted)
    (name,) = world.waiting()
    job = world.api.objects.get("jobs", name)
    assert job is not None
    before = job["spec"]["activeDeadlineSeconds"]
    sandbox = await claimed(backend, claim(wanted, timeout_seconds=5))
    reading = asyncio.create_task(read(sandbox.dispatch(call("e-1"))))
    await until(lambda: name not in world.waiting())
    marked = world.api.objects.get("jobs", name)
    assert marked is not None
    assert marked["metadata"]["labels"][names.EXECUTION] == "e-1"
    assert marked["spec"]["activeDeadlineSeconds"] < before
    await world.runners[name].finish()
    await reading


async def test_a_mark_is_put_once_the_api_server_is_back(world: World) -> None:
    """However long that was: until then other replicas count a tenant's sandbox as one that waits."""
    wanted = template(1)
    backend = await world.pooled(wanted)
    (name,) = world.waiting()
    sandbox = await claimed(backend, claim(wanted, isolation=Isolation.REUSE))
    await world.api.stop()
    await served(world, sandbox, "e-1")
    await asyncio.sleep(client.PATIENCE_SECONDS + 1)
    await world.api.start()
    await until(lambda: name in world.waiting("reused"))


async def test_one_that_died_while_it_waited_did_not_take_the_call(world: World) -> None:
    """Its runner is gone before the watch says so: the call is certain not to have run there."""
    wanted = template(1)
    backend = await world.pooled(wanted)
    (name,) = world.waiting()
    sandbox = await claimed(backend, claim(wanted))
    await world.runners[name].stop()
    with pytest.raises(NotTakenError) as refusal:
        await read(sandbox.dispatch(call("e-1")))
    assert refusal.value.why == "did not answer any more"
    await sandbox.release()
    assert (world.api.objects.get("jobs", name) is not None, pool(backend).conflicts) == (True, 1)


async def begun(world: World, sandbox: KubernetesSandbox, execution_id: str) -> asyncio.Task[bytes]:
    """Have its runner take the call, which runs until the runner is told to finish."""
    runner = world.runners[sandbox.details.name]
    runner.execution_id = execution_id
    reading = asyncio.create_task(read(sandbox.dispatch(call(execution_id))))
    await runner.claimed.wait()
    return reading


async def test_one_that_another_replica_uses_is_left_alone(world: World) -> None:
    """Its call goes on: neither the refusal nor the release of the refused touches it."""
    wanted = template(1)
    first, second = await world.pooled(wanted), await world.pooled(wanted)
    (name,) = world.waiting()
    ours, theirs = await claimed(first, claim(wanted, "e-1")), await claimed(second, claim(wanted, "e-2"))
    reading = await begun(world, ours, "e-1")
    with pytest.raises(NotTakenError, match="claimed by e-1") as refusal:
        await read(theirs.dispatch(call("e-2")))
    assert refusal.value.why == "had taken another call, or was retired"
    await theirs.release()
    assert world.api.objects.get("jobs", name) is not None
    await world.runners[name].finish()
    assert await reading == bytes(world.runners[name].journal)


async def test_one_whose_owner_died_before_deleting_it_is_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even by a keeper whose own call it refused: it has ended, and nobody is left to delete it."""
    monkeypatch.setattr(roster, "ENDED_SECONDS", 0.1)
    wanted = template(1)
    backend = await world.pooled(wanted)
    (name,) = world.waiting()
    sandbox = await claimed(backend, claim(wanted, "e-2"))
    world.runners[name].execution_id = "e-1"
    world.runners[name].calls.append(b"a call of another replica")
    with pytest.raises(NotTakenError, match="claimed by e-1"):
        await read(sandbox.dispatch(call("e-2")))
    await sandbox.release()
    await world.end_pod(name)
    await until(lambda: world.api.objects.get("jobs", name) is None)


async def test_one_that_another_replica_uses_is_left_alone_by_a_call_for_reuse(world: World) -> None:
    """It never was its tenant's, so it is not taken down as one that the tenant has no more use for."""
    wanted = template(1)
    first, second = await world.pooled(wanted), await world.pooled(wanted)
    (name,) = world.waiting()
    ours = await claimed(first, claim(wanted, "e-1"))
    theirs = await claimed(second, claim(wanted, "e-2", isolation=Isolation.REUSE))
    reading = await begun(world, ours, "e-1")
    with pytest.raises(NotTakenError, match="claimed by e-1"):
        await read(theirs.dispatch(call("e-2")))
    await theirs.release()
    await asyncio.sleep(0.3)  # in which it would be deleted
    assert (world.api.objects.get("jobs", name) is not None, pool(second).conflicts) == (True, 1)
    await world.runners[name].finish()
    assert await reading == bytes(world.runners[name].journal)


@pytest.mark.parametrize("isolation", list(Isolation))
async def test_a_sandbox_whose_call_was_never_sent_waits_again(world: World, isolation: Isolation) -> None:
    """A call that is cancelled before it is sent, or lost to another replica, costs the pool nothing."""
    wanted = template(1)
    backend = await world.pooled(wanted)
    (name,) = world.waiting()
    sandbox = await claimed(backend, claim(wanted, isolation=isolation))
    await sandbox.ready()
    await sandbox.release()
    await until(lambda: pool(backend).ready == 1)
    assert (await claimed(backend, claim(wanted, "e-2"))).details.name == name


async def test_a_call_that_was_never_sent_ends_no_call_of_another_replica(world: World) -> None:
    """What one replica had reserved has another's call by now: giving it back leaves that alone."""
    wanted = template(1)
    first, second = await world.pooled(wanted), await world.pooled(wanted)
    (name,) = world.waiting()
    reserved, ours = await claimed(first, claim(wanted, "e-1")), await claimed(second, claim(wanted, "e-2"))
    reading = await begun(world, ours, "e-2")
    await reserved.release()
    await asyncio.sleep(0.3)  # in which it would be deleted
    assert world.api.objects.get("jobs", name) is not None
    await world.runners[name].finish()
    assert await reading == bytes(world.runners[name].journal)


async def interrupted(world: World, sandbox: KubernetesSandbox, *, sent: bool) -> FakeRunner:
    """Stop to dispatch the call before or after it is written, in any case before an answer."""
    runner = world.runners[sandbox.details.name]
    runner.mute = True
    sending = asyncio.create_task(read(sandbox.dispatch(call("e-1"))))
    await (runner.heard.wait() if sent else asyncio.sleep(0))
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert runner.heard.is_set() == sent
    return runner


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("holder", ["", "e-1", "e-2"], ids=["nobody", "us", "another"])
async def test_the_runner_says_whose_a_sandbox_is_whose_call_was_interrupted(
    world: World, holder: str, *, sent: bool
) -> None:
    """Stopped while it sent its call, a service knows not whether that came: only what is another's stays."""
    wanted = template(1)
    backend = await world.pooled(wanted)
    (name,) = world.waiting()
    sandbox = await claimed(backend, claim(wanted, "e-1"))
    runner = await interrupted(world, sandbox, sent=sent)
    if holder:
        runner.execution_id = holder
        runner.calls.append(call(holder))
    await sandbox.release()
    assert (world.api.objects.get("jobs", name) is None) == (holder != "e-2")
    assert runner.retired == (not holder)


async def test_one_whose_runner_can_not_be_asked_is_replaced(world: World) -> None:
    """Whoever has it, if anybody, keeps it; nobody here waits for it."""
    wanted = template(1)
    backend = await world.pooled(wanted)
    (name,) = world.waiting()
    sandbox = await claimed(backend, claim(wanted, "e-1"))
    runner = await interrupted(world, sandbox, sent=False)
    await runner.stop()
    await sandbox.release()
    await until(lambda: pool(backend).ready == 1)
    assert world.api.objects.get("jobs", name) is not None
    assert (await claimed(backend, claim(wanted, "e-2"))).details.name != name


async def test_one_that_may_have_the_call_and_can_not_be_asked_is_ended(world: World) -> None:
    """Else the call could run after its client was told that it is lost."""
    wanted = template(1)
    backend = await world.pooled(wanted)
    (name,) = world.waiting()
    sandbox = await claimed(backend, claim(wanted, "e-1"))
    runner = await interrupted(world, sandbox, sent=True)
    await runner.stop()
    await sandbox.release()
    assert world.api.objects.get("jobs", name) is None


async def test_a_sandbox_found_after_a_restart_may_be_anothers(world: World) -> None:
    """The record names one of the pool that never got the call: what runs there goes on."""
    wanted = template(1)
    backend = await world.pooled(wanted)
    (name,) = world.waiting()
    world.runners[name].execution_id = "e-2"
    world.runners[name].calls.append(call("e-2"))
    found = await backend.find(name, "e-1")
    assert found is not None
    await found.release()
    assert world.api.objects.get("jobs", name) is not None


async def test_a_sandbox_marked_for_another_call_is_not_found(world: World) -> None:
    """Whoever recovers a call that never got there has nothing to end."""
    wanted = template(1)
    backend = await world.pooled(wanted)
    (name,) = world.waiting()
    sandbox = await claimed(backend, claim(wanted, "e-1"))
    world.runners[name].execution_id = "e-1"
    reading = asyncio.create_task(read(sandbox.dispatch(call("e-1"))))
    await until(lambda: name in world.waiting("claimed"))
    assert await backend.find(name, "e-2") is None
    assert await backend.find(name, "e-1") is not None
    await world.runners[name].finish()
    await reading


async def test_what_a_template_keeps_is_left_to_its_ttl_after_the_shortest_call(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No mark was put on it, so it looks like one that died while it waited."""
    monkeypatch.setattr(roster, "ENDED_SECONDS", 0.1)
    wanted = template(1, "kept", delete_finished=False)
    backend = await world.pooled(wanted)
    sandbox = await claimed(backend, claim(wanted))
    name = sandbox.details.name
    await served(world, sandbox, "e-1")
    await world.end_pod(name)
    job = world.api.objects.get("jobs", name)
    assert job is not None
    assert job["metadata"]["labels"][names.STATE] == "waiting"
    job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    await world.api.objects.put("jobs", job)
    await asyncio.sleep(3.0)  # rounds in which it would be deleted
    assert world.api.objects.get("jobs", name) is not None
    assert pool(backend).ready == 1


async def test_a_tenants_sandbox_whose_next_call_was_never_sent_stays_the_tenants(world: World) -> None:
    """The call after it follows the one that ran."""
    wanted = template(1)
    backend = await world.pooled(wanted)
    sandbox = await claimed(backend, claim(wanted, "e-1", "alice", isolation=Isolation.REUSE))
    await served(world, sandbox, "e-1")
    unsent = await claimed(backend, claim(wanted, "e-2", "alice", isolation=Isolation.REUSE))
    await unsent.release()
    again = await claimed(backend, claim(wanted, "e-3", "alice", isolation=Isolation.REUSE))
    assert (again.details.name, again.follows) == (sandbox.details.name, "e-1")


async def test_a_connection_that_breaks_after_the_call_was_sent_is_no_refusal(world: World) -> None:
    """The runner may have the call: it must not run anywhere else."""
    wanted = template(1)
    backend = await world.pooled(wanted)
    (name,) = world.waiting()
    sandbox = await claimed(backend, claim(wanted))
    reading = asyncio.create_task(read(sandbox.dispatch(call("e-1"))))
    await world.runners[name].claimed.wait()
    world.runners[name].cut()
    with pytest.raises(ConnectionLostError):
        await reading
    await world.runners[name].stop()
    with pytest.raises(ConnectionLostError):
        await read(sandbox.resume(0))


async def older(world: World, name: str, seconds: float) -> None:
    """Make a sandbox so much older."""
    job = world.api.objects.get("jobs", name)
    assert job is not None
    made = datetime.fromisoformat(job["metadata"]["creationTimestamp"]) - timedelta(seconds=seconds)
    job["metadata"]["creationTimestamp"] = f"{made:%Y-%m-%dT%H:%M:%SZ}"
    await world.api.objects.put("jobs", job)
    await world.change_pod(name, startTime=f"{made:%Y-%m-%dT%H:%M:%SZ}")
    await arrived()


async def test_a_full_cluster_renews_its_pool(world: World) -> None:
    """Where successors of what has waited too long find no room, one after the other makes it."""
    wanted = template(2)
    backend = await world.pooled(wanted)
    old = world.waiting()
    world.pool_running = False
    for name in old:
        await older(world, name, 4000)
    await until(lambda: len(world.waiting()) == 4)
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient gpu"}
    for name in set(world.waiting()) - set(old):
        await world.change_pod(name, conditions=[unscheduled])
    await until(lambda: len(set(old) & set(world.waiting())) == 1)
    await asyncio.sleep(1.5)  # in which the next one would go
    (last,) = set(old) & set(world.waiting())
    first, _ = (name for name in world.waiting() if name not in old)
    await world.change_pod(first, conditions=[])
    await world.run_pod(first)
    await until(lambda: last not in world.waiting())
    await until(lambda: pool(backend).ready == 1)


async def test_no_call_gets_a_sandbox_that_does_not_outlast_it(world: World) -> None:
    """The kubelet would end it in the middle: another one is made, and it goes."""
    wanted = template(pool=PoolSettings(size=1, max_idle_seconds=60, miss=MissPolicy.WAIT))
    backend = await world.pooled(wanted)
    (name,) = world.waiting()
    await older(world, name, 200)
    assert (await claimed(backend, claim(wanted))).details.name != name
    await until(lambda: world.api.objects.get("jobs", name) is None)


async def test_no_tenant_keeps_a_sandbox_that_does_not_outlast_its_next_call(world: World) -> None:
    """One that had waited long before its first call may have little time left."""
    wanted = template(2)
    backend = await world.pooled(wanted)
    sandbox = await claimed(backend, claim(wanted, "e-1", isolation=Isolation.REUSE))
    await served(world, sandbox, "e-1")
    await until(lambda: sandbox.details.name in world.waiting("reused"))
    await older(world, sandbox.details.name, 9100)
    again = await claimed(backend, claim(wanted, "e-2", isolation=Isolation.REUSE))
    assert (again.start, again.details.name != sandbox.details.name) == (Start.WARM, True)
    await until(lambda: world.api.objects.get("jobs", sandbox.details.name) is None)


async def test_a_changed_template_replaces_the_pool(world: World) -> None:
    """The old ones are asked to retire and deleted; one that has a call by then refuses, and stays."""
    old = template(2)
    backend = await world.pooled(old)
    before = world.waiting()
    world.runners[before[0]].calls.append(b"a call of another replica")
    new = template(2, preload=("json",))
    backend.use_templates({"default": new})
    missed = await backend.claim(claim(new))
    assert isinstance(missed, KubernetesSandbox) or "the template changed" in missed.reason
    await until(lambda: world.api.objects.get("jobs", before[1]) is None)
    await until(lambda: pool(backend).ready >= 1)
    assert (world.runners[before[0]].retired, world.runners[before[1]].retired) == (False, True)
    assert world.api.objects.get("jobs", before[0]) is not None


async def test_a_call_is_cold_because_the_template_changed_as_long_as_no_new_sandbox_was_ready(world: World) -> None:
    """Even when those of before are gone, and in the words that its answer keeps; a smaller or larger pool is none."""
    backend = await world.pooled(template(2))
    before = world.waiting()
    assert pool(backend).changed_at is None
    world.pool_running = False
    new = template(1, preload=("json",))
    backend.use_templates({"default": new})
    await until(lambda: not set(before) & set(world.waiting()) and pool(backend).starting == 1)
    first = asyncio.create_task(backend.claim(claim(new)))
    await asyncio.sleep(0)
    missed = await backend.claim(claim(new, "e-2"))
    assert isinstance(missed, Miss)
    assert re.fullmatch(
        r"the template changed \d+ s ago, and its new sandboxes are not ready yet \(1 being made, 1 calls wait\)",
        missed.reason,
    )
    await world.run_pod(world.waiting()[0])
    assert isinstance(await first, KubernetesSandbox)
    missed = await backend.claim(claim(new))
    assert isinstance(missed, KubernetesSandbox) or "are taken (1 in use" in missed.reason


async def test_a_service_that_starts_with_another_template_knows_that_it_changed(world: World) -> None:
    """By the sandboxes of before that still wait; one that finds its own knows of no change."""
    await (await world.pooled(template(2))).stop()
    again = await world.pooled(template(2))
    assert pool(again).changed_at is None
    await again.stop()
    world.pool_running = False
    other = await world.pooled(template(2, preload=("json",)))
    await until(lambda: pool(other).changed_at)


async def test_every_replica_knows_what_a_sandbox_waits_for(world: World) -> None:
    """Of one that another replica makes for a call, as of the pool's; a sandbox that runs waits for nothing."""
    backends = [await world.pooled(template(1)) for _ in range(2)]
    world.running = False
    wanted = Template(name="plain")
    await backends[0].create("x-1", claim(wanted))
    await until(lambda: world.api.objects.get("pods", "x-1-abcde"))
    assert [backend.obstacle("x-1", "e-1") for backend in backends] == ["", ""]
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient memory"}
    await world.change_pod("x-1", conditions=[condition])
    for backend in backends:
        await until(lambda backend=backend: backend.obstacle("x-1", "e-1"))
        assert re.fullmatch(r"pending for \d+ s: Insufficient memory", backend.obstacle("x-1", "e-1"))
    await world.change_pod("x-1", conditions=[])
    await world.run_pod("x-1")
    await until(lambda: not any(backend.obstacle("x-1", "e-1") for backend in backends))


async def test_a_size_alone_changes_no_sandbox(world: World) -> None:
    """A larger pool keeps what it has."""
    backend = await world.pooled(template(2))
    before = set(world.waiting())
    backend.use_templates({"default": template(4)})
    await until(lambda: pool(backend).ready == 4)
    assert before < set(world.waiting())
    backend.use_templates({"default": template(1)})
    await until(lambda: len(world.waiting()) == 1)


@pytest.mark.parametrize(
    ("request_fields", "reason"),
    [({"resources": {"memory": "64Mi"}}, "other resources"), ({"resources": {"cpu": "2"}}, "other resources")],
)
async def test_a_call_the_pool_can_not_serve_goes_cold_and_says_why(
    world: World, request_fields: dict[str, Any], reason: str
) -> None:
    """The reason names what does not fit; nothing of the pool is used."""
    wanted = template(1)
    backend = await world.pooled(wanted)
    found = await backend.claim(claim(wanted, **request_fields))
    assert isinstance(found, Miss)
    assert reason in found.reason
    assert pool(backend).ready == 1


async def test_a_template_without_a_pool_goes_cold(world: World) -> None:
    """And says so."""
    backend = await world.pooled()
    assert await backend.claim(claim(Template(name="default"))) == Miss("template 'default' keeps no sandboxes waiting")


async def test_what_can_not_start_is_held_not_churned(world: World) -> None:
    """Unschedulable sandboxes stay as they are and are reported; a call goes cold and says what they wait for."""
    world.pool_running = False
    wanted = template(2)
    backend = await world.pooled(wanted)
    await until(lambda: len(world.waiting()) == 2)
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient memory"}
    held = world.waiting()
    for name in held:
        await world.change_pod(name, conditions=[condition])
    await until(lambda: any(problem.startswith("2 ") for problem in pool(backend).problems))
    await asyncio.sleep(0.3)  # rounds in which they would be churned
    assert world.waiting() == held
    (problem,) = pool(backend).problems
    assert problem.startswith("2 sandboxes pending for ")
    assert problem.endswith("s: Insufficient memory")
    missed = await backend.claim(claim(wanted))
    assert isinstance(missed, Miss)
    assert re.fullmatch(r"the pool can't be filled: 2 sandboxes pending for \d+ s: Insufficient memory", missed.reason)


async def test_creations_that_are_refused_are_not_repeated_at_once(world: World) -> None:
    """A pool that the cluster refuses asks again after a while, says why, and fills as soon as it may."""
    refusal = "jobs.batch is forbidden: exceeded quota: q"
    world.api.fail("POST", "/jobs", lambda: status(403, "Forbidden", refusal), times=1000)
    backend = world.backend()
    backend.use_templates({"default": template(2)})
    await backend.start()
    await until(lambda: backend.pools() and pool(backend).problems)
    problems, before = pool(backend).problems, len(world.api.requests)
    await asyncio.sleep(0.5)
    assert len([1 for method, path in world.api.requests[before:] if method == "POST" and path.endswith("/jobs")]) <= 4
    assert re.fullmatch(rf"no sandbox can be made: .*{refusal} \(for \d+ s now\)", problems[0])
    world.api.faults.clear()
    await until(lambda: pool(backend).ready == 2 and not pool(backend).problems)


async def test_one_that_keeps_the_pool_no_more_tells_of_no_trouble_of_then(world: World) -> None:
    """Whether sandboxes can be made is known to the replica that took over."""
    world.api.fail("POST", "/jobs", lambda: status(403, "Forbidden", "exceeded quota: q"), times=1000)
    backend = world.backend()
    backend.use_templates({"default": template(2)})
    await backend.start()
    await until(lambda: backend.pools() and pool(backend).problems)
    (lease,) = world.api.objects.all("leases")
    await world.api.objects.put("leases", {**lease, "spec": {**lease["spec"], "holderIdentity": "another"}})
    await until(lambda: not pool(backend).problems)


async def test_sandboxes_that_end_at_once_are_not_made_in_a_circle(world: World) -> None:
    """A runner that crashes at its start costs a few Jobs, not one every moment."""

    async def crash(api: FakeApiServer, job: Object) -> None:
        pod = pod_of(job)
        pod["status"] = {
            "phase": "Failed",
            "containerStatuses": [{"name": "runner", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}],
        }
        await api.objects.put("pods", pod)

    world.api.script = crash
    world.pool_running = False
    backend = world.backend()
    backend.use_templates({"default": template(2)})
    await backend.start()
    await until(lambda: backend.pools() and pool(backend).problems)
    await asyncio.sleep(0.5)
    assert len([job for job in world.api.objects.all("jobs") if job["metadata"]["name"].startswith("p-")]) <= 4
    assert "end as soon as they have started" in pool(backend).problems[0]


async def test_a_call_waits_for_one_on_its_way(world: World) -> None:
    """With nothing ready, a sandbox that starts already is sooner there than a new one."""
    world.pool_running = False
    wanted = template(1)
    backend = await world.pooled(wanted)
    await until(lambda: pool(backend).starting == 1)
    waiting = asyncio.create_task(backend.claim(claim(wanted)))
    await asyncio.sleep(0)
    second = await backend.claim(claim(wanted, "e-2"))
    assert isinstance(second, Miss)
    world.pool_running = True
    await world.run_pod(world.waiting()[0])
    found = await waiting
    assert isinstance(found, KubernetesSandbox)


async def test_a_call_whose_sandbox_is_anothers_keeps_its_place_in_line(world: World) -> None:
    """It waited for it longer than those behind it: the next sandbox is its own, not theirs."""
    world.pool_running = False
    wanted = template(pool=PoolSettings(size=2, miss=MissPolicy.WAIT))
    backend, other = await world.pooled(wanted), await world.pooled(wanted)
    await until(lambda: len(world.waiting()) == 2)
    contested, free = world.waiting()
    older, younger = replace(claim(wanted, "e-1"), since=1.0), replace(claim(wanted, "e-2"), since=2.0)
    first = asyncio.create_task(claimed(backend, older))
    await asyncio.sleep(0)
    behind = asyncio.create_task(claimed(backend, younger))
    await world.run_pod(contested)
    reading = await begun(world, await claimed(other, claim(wanted, "e-3")), "e-3")
    with pytest.raises(NotTakenError):
        await read((await first).dispatch(call("e-1")))
    again = asyncio.create_task(claimed(backend, older))
    await asyncio.sleep(0)
    await world.run_pod(free)
    await asyncio.wait({again, behind}, return_when=asyncio.FIRST_COMPLETED)
    assert (again.done(), behind.done()) == (True, False)
    assert again.result().details.name == free
    behind.cancel()
    await world.runners[contested].finish()
    await reading


async def test_a_policy_to_wait_makes_the_pool_serve_all(world: World) -> None:
    """No call goes cold: the pool makes one for each that waits, beyond its size."""
    wanted = template(pool=PoolSettings(size=1, miss=MissPolicy.WAIT))
    backend = await world.pooled(wanted)
    found = await asyncio.gather(*(claimed(backend, claim(wanted, f"e-{n}")) for n in range(5)))
    assert len({sandbox.details.name for sandbox in found}) == 5
    assert (pool(backend).hits, pool(backend).waits, pool(backend).misses) == (1, 4, 0)


async def test_a_caller_that_stops_waiting_leaves_nothing_reserved(world: World) -> None:
    """The sandbox it would have got is the next one's."""
    world.pool_running = False
    wanted = template(1)
    backend = await world.pooled(wanted)
    await until(lambda: pool(backend).starting == 1)
    waiting = asyncio.create_task(backend.claim(claim(wanted)))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await world.run_pod(world.waiting()[0])
    await until(lambda: pool(backend).ready == 1)
    await claimed(backend, claim(wanted))


async def test_deleted_sandboxes_are_replaced(world: World) -> None:
    """Somebody deletes pods or Jobs of the pool: it comes back to its size."""
    backend = await world.pooled(template(3))
    first, second, _ = world.waiting()
    await world.api.objects.remove("jobs", first)
    await world.api.objects.remove("pods", f"{first}-abcde")
    await world.end_pod(second, code=137, reason="Error")
    await until(lambda: len(set(world.waiting()) - {first, second}) == 3)
    await until(lambda: pool(backend).ready == 3)


async def test_the_pool_serves_while_the_api_server_is_away(world: World) -> None:
    """What waits can be claimed and dialled without it."""
    wanted = template(2)
    backend = await world.pooled(wanted)
    await world.api.stop()
    sandbox = await claimed(backend, claim(wanted))
    runner, reading = world.runners[sandbox.details.name], await begun(world, sandbox, "e-1")
    await runner.finish()
    assert await reading == bytes(runner.journal)
    await world.api.start()
    await sandbox.release()
    await until(lambda: pool(backend).ready == 2)


async def served(world: World, sandbox: KubernetesSandbox, execution_id: str, *, sound: bool = True) -> None:
    """Let the sandbox serve one call, and give it back."""
    runner = world.runners[sandbox.details.name]
    runner.calls.clear()
    runner.journal.clear()
    runner.complete = False
    runner.claimed.clear()
    reading = await begun(world, sandbox, execution_id)
    await runner.finish()
    await reading
    await sandbox.release(sound=sound)


async def test_the_pool_is_whole_soon_after_the_api_server_is_back(world: World) -> None:
    """What could not be asked for is asked for again under the same name: none is missing, and none is made twice."""
    wanted = template(3)
    backend = await world.pooled(wanted)
    await world.api.stop()
    sandbox = await claimed(backend, claim(wanted))
    await until(lambda: any("can't be created now" in problem for problem in pool(backend).problems))
    await world.api.start()
    await sandbox.release()
    await until(lambda: pool(backend).ready == 3)
    assert len({job["metadata"]["name"] for job in world.api.objects.all("jobs")}) <= 4


async def test_a_reused_sandbox_stays_with_its_tenant(world: World) -> None:
    """The tenant's next call gets the same one and names the call before; another tenant gets another."""
    wanted = template(2)
    backend = await world.pooled(wanted)
    first = await claimed(backend, claim(wanted, "e-1", "alice", isolation=Isolation.REUSE))
    await served(world, first, "e-1")
    second = await claimed(backend, claim(wanted, "e-2", "alice", isolation=Isolation.REUSE))
    assert (second.details.name, second.start, second.follows) == (first.details.name, Start.REUSED, "e-1")
    await served(world, second, "e-2")
    other = await claimed(backend, claim(wanted, "e-3", "bob", isolation=Isolation.REUSE))
    assert other.details.name != first.details.name
    single = await backend.claim(claim(wanted, "e-4", "alice"))
    assert isinstance(single, Miss) or single.details.name != first.details.name
    await until(lambda: first.details.name not in world.waiting())


async def test_calls_of_a_reused_sandbox_share_a_connection(world: World) -> None:
    """When the runner has closed it, the next call goes over a new one."""
    wanted = template(1)
    backend = await world.pooled(wanted)
    for number in range(3):
        sandbox = await claimed(backend, claim(wanted, f"e-{number}", isolation=Isolation.REUSE))
        await served(world, sandbox, f"e-{number}")
    runner = world.runners[sandbox.details.name]
    assert len(set(runner.callers)) == 1
    runner.cut()
    await arrived()
    sandbox = await claimed(backend, claim(wanted, "e-3", isolation=Isolation.REUSE))
    await served(world, sandbox, "e-3")
    assert len(set(runner.callers)) == 2


async def test_a_reused_sandbox_that_died_between_two_calls_did_not_take_the_second(world: World) -> None:
    """The connection kept to it is gone too, so the second call is certain not to have run there."""
    wanted = template(1)
    backend = await world.pooled(wanted)
    sandbox = await claimed(backend, claim(wanted, "e-1", isolation=Isolation.REUSE))
    await served(world, sandbox, "e-1")
    await world.runners[sandbox.details.name].stop()
    await arrived()
    sandbox = await claimed(backend, claim(wanted, "e-2", isolation=Isolation.REUSE))
    with pytest.raises(NotTakenError):
        await read(sandbox.dispatch(call("e-2")))


@pytest.mark.parametrize(
    "limits", [{"max_calls": 1}, {"max_age_seconds": 0.0001}, {"max_idle_seconds": 0.05}], ids=["calls", "age", "idle"]
)
async def test_a_reused_sandbox_retires(world: World, limits: dict[str, Any]) -> None:
    """By the number of its calls, by its age, or by having nothing to do: its Job is deleted."""
    wanted = template(1, reuse=limits)
    backend = await world.pooled(wanted)
    sandbox = await claimed(backend, claim(wanted, isolation=Isolation.REUSE))
    await served(world, sandbox, "e-1")
    await until(lambda: world.api.objects.get("jobs", sandbox.details.name) is None)


async def test_a_sandbox_that_is_not_sound_is_not_reused(world: World) -> None:
    """Any doubt ends it."""
    wanted = template(1)
    backend = await world.pooled(wanted)
    sandbox = await claimed(backend, claim(wanted, isolation=Isolation.REUSE))
    await served(world, sandbox, "e-1", sound=False)
    assert world.api.objects.get("jobs", sandbox.details.name) is None


async def test_garbage_collection_leaves_pool_and_tenants_alone(world: World) -> None:
    """What waits and what a tenant keeps has no running execution, and stays."""
    wanted = template(2)
    backend = await world.pooled(wanted)
    sandbox = await claimed(backend, claim(wanted, isolation=Isolation.REUSE))
    await served(world, sandbox, "e-1")
    await until(lambda: sandbox.details.name not in world.waiting())
    await until(lambda: pool(backend).ready == 2)

    async def nobody(_execution_id: str) -> bool:
        return False

    assert await backend.collect_garbage(nobody) == 0
    assert world.api.objects.get("jobs", sandbox.details.name) is not None


async def test_a_tenants_sandbox_that_has_ended_is_left_to_its_ttl(world: World) -> None:
    """Its Job bears the name of its first call, which is over; the last one may still need what is in its log."""
    wanted = template(1)
    backend = await world.pooled(wanted)
    sandbox = await claimed(backend, claim(wanted, "e-1", isolation=Isolation.REUSE))
    await served(world, sandbox, "e-1")
    name = sandbox.details.name
    await until(lambda: name in world.waiting("reused"))
    job = world.api.objects.get("jobs", name)
    assert job is not None
    job["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}
    await world.api.objects.put("jobs", job)
    await arrived()

    async def is_wanted(execution_id: str) -> bool:
        return execution_id == "e-2"

    assert await backend.collect_garbage(is_wanted) == 0
    assert world.api.objects.get("jobs", name) is not None


async def test_a_pool_that_sizes_itself_counts_the_calls_of_all_replicas(world: World) -> None:
    """The one that leads has few or none of them; what it retires itself is no call's."""
    wanted = template(pool=PoolSettings(floor=2, ceiling=8))
    leader = await world.pooled(wanted)
    other = await world.pooled(wanted)
    for n in range(6):
        await served(world, await claimed(other, claim(wanted, f"e-{n}")), f"e-{n}")
    await until(lambda: pool(leader).desired > 2)
    assert pool(leader).hits == pool(leader).waits == pool(leader).misses == 0


async def test_what_a_keeper_retires_is_no_demand(world: World) -> None:
    """A pool that became smaller stays so: the sandboxes that went had no calls."""
    backend = await world.pooled(template(pool=PoolSettings(floor=4, ceiling=20)))
    backend.use_templates({"default": template(pool=PoolSettings(floor=1, ceiling=20))})
    await until(lambda: len(world.waiting()) == 1)
    await until(lambda: pool(backend).ready == 1)  # the watch has told of the others' end
    assert pool(backend).desired == 1
