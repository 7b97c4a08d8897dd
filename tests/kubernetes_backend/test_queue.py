"""Jobs that a queue suspends: one that waits says so, and one that is evicted and admitted again runs no call twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from executor_api.backends.base import Claim, ConnectionLostError, Sandbox, SandboxFailedError
from executor_api.backends.kubernetes import names, remains
from executor_api.backends.kubernetes.backend import KubernetesBackend
from executor_api.domain.outcome import Evidence, Reason
from executor_runner.protocol.frames import FrameKind
from kubernetes_backend.fake_apiserver import FakeApiServer
from kubernetes_backend.fake_objects import Object
from kubernetes_backend.fake_runner import FakeRunner
from kubernetes_backend.world import World, plan_of, pod_of, read, until

PREEMPTED = "Preempted to accommodate a workload (UID: u, JobUID: j) due to prioritization in the ClusterQueue"
CLAIM = Claim("e-x-1", "t", plan_of(queue="gpu", start_seconds=60))


async def _suspend(world: World, *, suspended: bool) -> None:
    job = world.api.objects.get("jobs", "x-1")
    assert job is not None
    await world.api.objects.put("jobs", {**job, "spec": {**job["spec"], "suspend": suspended}})


async def _hold(api: FakeApiServer, job: Object) -> None:
    """As Kueue's webhook does with a Job that names a queue."""
    await api.objects.put("jobs", {**job, "spec": {**job["spec"], "suspend": True}})


async def _admit(world: World) -> FakeRunner:
    """Resume the Job and let it have a pod, as the Job controller does."""
    await _suspend(world, suspended=False)
    job = world.api.objects.get("jobs", "x-1")
    assert job is not None
    await world.api.objects.put("pods", pod_of(job))
    return await world.run_pod("x-1")


async def _evict(world: World, message: str = PREEMPTED) -> None:
    """Take its place back: the Job is suspended, and its pod deleted."""
    await world.api.event("Job", "x-1", "Stopped", message)
    await _suspend(world, suspended=True)
    await world.runners["x-1"].stop()
    await world.api.objects.remove("pods", "x-1-abcde")


@pytest.fixture
async def backend(world: World) -> KubernetesBackend:
    found = await world.started()
    world.api.script = _hold
    return found


async def _running(world: World, backend: KubernetesBackend) -> tuple[Sandbox, AsyncIterator[bytes], FakeRunner]:
    """A call whose runner has it."""
    sandbox = await backend.create("x-1", CLAIM)
    runner = await _admit(world)
    await sandbox.ready()
    journal = sandbox.dispatch(b"call")
    await runner_has_call(journal, runner)
    return sandbox, journal, runner


async def runner_has_call(journal: AsyncIterator[bytes], runner: FakeRunner) -> None:
    """Read until the journal begins."""
    reading = asyncio.create_task(anext(journal))  # type: ignore[arg-type]
    await runner.claimed.wait()
    await runner.write(FrameKind.STARTED, b"{}")
    await reading


async def test_a_job_in_a_queue_says_what_it_waits_for(world: World, backend: KubernetesBackend) -> None:
    """While it is suspended that is the obstacle, by name of the queue; once it is admitted it starts."""
    sandbox = await backend.create("x-1", CLAIM)
    job = world.api.objects.get("jobs", "x-1")
    assert job is not None
    assert job["metadata"]["labels"][names.QUEUE] == "gpu"
    starting = asyncio.create_task(sandbox.ready())
    await until(lambda: "waits in queue 'gpu' until Kueue admits it" in backend.obstacle("x-1", "e-x-1"))
    await asyncio.sleep(1.0)  # the Job is looked at meanwhile
    assert not starting.done()
    await _admit(world)
    await starting


@pytest.mark.parametrize(("queue", "reason"), [("gpu", Reason.QUOTA), (None, Reason.START_TIMEOUT)])
async def test_a_job_that_is_not_admitted_in_time(
    backend: KubernetesBackend, queue: str | None, reason: Reason
) -> None:
    """The call fails with what its Job waited for; who suspends a Job that names no queue is not known."""
    sandbox = await backend.create("x-1", Claim("e-x-1", "t", plan_of(queue=queue, start_seconds=2)))
    with pytest.raises(SandboxFailedError) as caught:
        await sandbox.ready()
    assert caught.value.evidence.reason is reason
    assert ("queue 'gpu'" in str(caught.value)) == (queue is not None)


@pytest.mark.parametrize(
    ("message", "reason"), [(PREEMPTED, Reason.PREEMPTED), ("The ClusterQueue is stopped", Reason.EVICTED)]
)
async def test_a_running_call_that_its_queue_ends(
    world: World, backend: KubernetesBackend, message: str, reason: Reason
) -> None:
    """The queue's own words tell whether it was preempted; its second pod changes nothing, and gets nothing."""
    sandbox, journal, _ = await _running(world, backend)
    await _evict(world, message)
    with pytest.raises(ConnectionLostError):
        await read(journal)
    second = await _admit(world)
    assert backend._cluster is not None
    pods = backend._cluster.pods
    await until(lambda: (first := pods.get("x-1")) is not None and first.gone)
    assert not await sandbox.alive()
    words = await sandbox.last_words()
    assert (words.evidence.reason, message in words.evidence.message) == (reason, True)
    assert await sandbox.evidence() == words.evidence
    for again in (sandbox.dispatch(b"call"), sandbox.resume(0)):
        with pytest.raises(ConnectionLostError):
            await read(again)
    assert second.calls == []


async def test_a_job_suspended_by_hand_is_evicted(
    world: World, backend: KubernetesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word of a queue, that the Job is suspended says enough."""
    monkeypatch.setattr(remains, "CAUSE_SECONDS", 60.0)
    sandbox, _, runner = await _running(world, backend)
    await _suspend(world, suspended=True)
    await runner.stop()
    await world.api.objects.remove("pods", "x-1-abcde")
    evidence = await sandbox.evidence()
    assert evidence == Evidence(Reason.EVICTED, "its Job was suspended while it had a pod")


async def test_a_second_pod_is_never_taken_for_the_first_after_a_restart(
    world: World, backend: KubernetesBackend
) -> None:
    """A service that starts between the two pods finds no pod, and does not take the one that comes for it."""
    await _running(world, backend)
    await _evict(world)
    await backend.stop()
    world.api.script = world.play
    heir = world.backend()
    await heir.start()
    await until(lambda: heir.health().ready)
    found = await heir.find("x-1", "e-x-1")
    assert found is not None
    second = await _admit(world)
    await until(lambda: heir._cluster is not None and heir._cluster.pods.get("x-1") is not None)
    assert not await found.alive()
    with pytest.raises(ConnectionLostError):
        await read(found.dispatch(b"call"))
    assert (await found.last_words()).evidence.reason is Reason.PREEMPTED
    assert second.calls == []


async def test_a_second_pod_at_the_same_address_refuses_the_call(world: World, backend: KubernetesBackend) -> None:
    """Before anybody hears that the first pod is gone, its address may lead to the second, which has the same token."""
    sandbox = await backend.create("x-1", CLAIM)
    first = await _admit(world)
    await sandbox.ready()
    await first.stop()
    second = FakeRunner(first.ip, first._expected_hash, "uid-second")
    world.runners["x-1"] = second
    await second.start()
    with pytest.raises(ConnectionLostError, match="another pod"):
        await read(sandbox.dispatch(b"call"))
    assert second.calls == []
