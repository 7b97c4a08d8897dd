"""Sandboxes that don't start: each says why, and no later than it has to."""

from __future__ import annotations

import time

import pytest

from executor_api.backends.base import SandboxFailedError
from executor_api.backends.kubernetes.backend import KubernetesBackend
from executor_api.domain.outcome import Evidence, Reason
from executor_api.errors import UnavailableError
from kubernetes_backend.fake_apiserver import FakeApiServer, status
from kubernetes_backend.fake_objects import Object
from kubernetes_backend.world import World, claim_of, pod_of

UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
}


async def _failure(backend: KubernetesBackend, start_seconds: float = 60) -> Evidence:
    sandbox = await backend.create("x-1", claim_of(start_seconds=start_seconds))
    with pytest.raises(SandboxFailedError) as caught:
        await sandbox.ready()
    return caught.value.evidence


async def test_quota_of_pods(world: World) -> None:
    """A quota that refuses the pod, not the Job, is told from the Job's events."""

    async def play(api: FakeApiServer, job: Object) -> None:
        name = job["metadata"]["name"]
        await api.event("Job", name, "FailedCreate", 'Error creating: pods "x" is forbidden: exceeded quota: test')

    backend = await world.started()
    world.api.script = play
    evidence = await _failure(backend)
    assert evidence.reason is Reason.QUOTA
    assert "exceeded quota: test" in evidence.message


async def test_pod_that_admission_refuses(world: World) -> None:
    """A pod that Pod Security or a limit range refuses is the template's fault."""

    async def play(api: FakeApiServer, job: Object) -> None:
        message = 'Error creating: pods "x" is forbidden: violates PodSecurity "restricted:latest"'
        await api.event("Job", job["metadata"]["name"], "FailedCreate", message)

    backend = await world.started()
    world.api.script = play
    assert (await _failure(backend)).reason is Reason.REJECTED_TEMPLATE


@pytest.mark.parametrize(
    ("code", "reason", "message", "expected"),
    [
        (403, "Forbidden", "jobs.batch is forbidden: exceeded quota: test", Reason.QUOTA),
        (403, "Forbidden", "admission webhook denied the request: image", Reason.REJECTED_TEMPLATE),
        (422, "Invalid", "spec.template.spec.nodeSelector: Invalid value", Reason.REJECTED_TEMPLATE),
    ],
)
async def test_job_that_is_refused(world: World, code: int, reason: str, message: str, expected: Reason) -> None:
    """A Job that the API server does not take is settled at once, with the server's words."""
    backend = await world.started()
    world.api.fail("POST", "/jobs", lambda: status(code, reason, message))
    with pytest.raises(SandboxFailedError) as caught:
        await backend.create("x-1", claim_of())
    assert caught.value.evidence.reason is expected
    assert message in caught.value.evidence.message


async def test_right_that_is_missing_is_not_the_calls_fault(world: World) -> None:
    """RBAC that forbids Jobs makes the service unavailable; no call fails for it."""
    backend = await world.started()
    world.api.fail("POST", "/jobs", lambda: status(403, "Forbidden", 'User "x" cannot create resource "jobs"'))
    with pytest.raises(UnavailableError, match="cannot create"):
        await backend.create("x-1", claim_of())


async def test_busy_api_server_is_asked_again(world: World) -> None:
    """A 429 is honoured with its Retry-After and the Job then made, once."""
    backend = await world.started()
    world.api.fail("POST", "/jobs", lambda: status(429, "TooManyRequests", "slow down", Retry_After="1"))
    began = time.monotonic()
    await backend.create("x-1", claim_of())
    assert time.monotonic() - began >= 1
    assert len(world.api.objects.all("jobs")) == 1


async def test_name_that_exists_is_the_same_sandbox(world: World) -> None:
    """Creating twice, as after a lost answer, makes one Job."""
    backend = await world.started()
    await backend.create("x-1", claim_of())
    sandbox = await backend.create("x-1", claim_of())
    await sandbox.ready()
    assert len(world.api.objects.all("jobs")) == 1


async def test_image_that_does_not_exist(world: World) -> None:
    """A pull that can't succeed fails the call at once, in the kubelet's words."""
    backend = await world.started()
    world.api.script = world.play_missing_image
    evidence = await _failure(backend)
    assert evidence == Evidence(Reason.IMAGE_PULL, "ErrImagePull: manifest unknown")


async def test_unschedulable_says_what_is_lacking(world: World) -> None:
    """The scheduler gets the template's time; then its own sentence is the reason."""

    async def play(api: FakeApiServer, job: Object) -> None:
        pod = pod_of(job)
        pod["status"]["conditions"] = [UNSCHEDULABLE]
        await api.objects.put("pods", pod)

    backend = await world.started()
    world.api.script = play
    evidence = await _failure(backend, start_seconds=2)
    assert evidence == Evidence(Reason.UNSCHEDULABLE, UNSCHEDULABLE["message"])


async def test_start_that_hangs_tells_the_last_event(world: World) -> None:
    """Where nothing else is known, the time that was given and the last event are told."""
    backend = await world.started()
    world.running = False
    await world.api.event("Pod", "x-1-abcde", "FailedMount", "MountVolume.SetUp failed")
    evidence = await _failure(backend, start_seconds=0.3)
    assert evidence.reason is Reason.START_TIMEOUT
    assert "0.3 s" in evidence.message
    assert "MountVolume.SetUp failed" in evidence.message


async def test_pod_deleted_before_it_runs(world: World) -> None:
    """A pod that is deleted while it waits ends the wait."""
    backend = await world.started()
    world.running = False
    sandbox = await backend.create("x-1", claim_of())
    await world.pod("x-1")
    await world.api.objects.remove("pods", "x-1-abcde")
    with pytest.raises(SandboxFailedError, match="deleted"):
        await sandbox.ready()


async def test_job_deleted_before_it_has_a_pod(world: World) -> None:
    """A Job that is deleted before it has a pod ends the wait, too."""

    async def play(api: FakeApiServer, job: Object) -> None:
        await api.objects.remove("jobs", job["metadata"]["name"])

    backend = await world.started()
    world.api.script = play
    evidence = await _failure(backend)
    assert evidence.reason is Reason.SANDBOX_LOST
    assert "deleted before it started" in evidence.message
