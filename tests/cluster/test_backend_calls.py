"""Calls in real Jobs: what the Job asks for, both ways to the runner, and the copies of a result."""

from __future__ import annotations

import asyncio

import pytest
from support.cluster import POD_IPS, Namespace

from cluster.calls import OneCall, until_ready
from cluster.conftest import Backends
from executor_api.backends.kubernetes.backend import KubernetesBackend
from executor_api.backends.kubernetes.settings import DispatchMode
from executor_runner.protocol.frames import FrameKind

pytestmark = pytest.mark.cluster


async def test_job_has_what_was_asked_for(backend: KubernetesBackend, own_namespace: Namespace) -> None:
    """The real Job carries TTL, deadlines and resources of the call, and the call prints in its pod."""
    call = OneCall(backend, {"ttl_seconds": 77}, code="print(1)", resources={"cpu": "500m", "memory": "256Mi"})
    sandbox = await call.ready()
    job = own_namespace.batch.read_namespaced_job(call.name, own_namespace.name)
    async with call.source(sandbox) as source:
        await call.read(source)
    await sandbox.release()
    assert call.stdout == b"1\n"
    assert (job.spec.ttl_seconds_after_finished, job.spec.backoff_limit) == (77, 0)
    assert job.spec.active_deadline_seconds > job.spec.template.spec.active_deadline_seconds > 120 + 60
    limits = job.spec.template.spec.containers[0].resources.limits
    assert (limits["cpu"], limits["memory"], limits["ephemeral-storage"]) == ("500m", "256Mi", "1Gi")


STRAIGHT = pytest.param(
    DispatchMode.POD_IP,
    marks=pytest.mark.skipif(not POD_IPS, reason="EXECUTOR_TEST_NO_POD_IPS: no way to pods from here"),
)


@pytest.mark.parametrize("dispatch", [STRAIGHT, DispatchMode.PROXY])
async def test_both_ways_lead_to_the_runner(backends: Backends, dispatch: DispatchMode) -> None:
    """A call can be sent, and taken up again, straight to the pod and through the API server."""
    backend = backends(dispatch)
    await backend.start()
    await until_ready(backend)
    call = OneCall(backend, command="echo before; sleep 1; echo after")
    sandbox = await call.ready()
    async with call.source(sandbox) as source:
        await call.read(source, FrameKind.STDOUT)
    await call.read(sandbox.resume(call.decoder.offset))
    await sandbox.release()
    assert call.stdout == b"before\nafter\n"


async def test_cancel_keeps_the_output(backend: KubernetesBackend) -> None:
    """A cancelled call ends by its runner, with a report."""
    call = OneCall(backend, command="echo before; sleep 60")
    sandbox = await call.ready()
    async with call.source(sandbox) as source:
        await call.read(source, FrameKind.STDOUT)
        await sandbox.cancel()
        await call.read(source)
    await sandbox.release()
    assert call.stdout == b"before\n"
    assert b'"cause":"cancelled"' in call.frames[-1].payload


async def test_restarted_service_finds_the_running_call(backends: Backends) -> None:
    """Another backend with the same key takes the journal up where the first one left it."""
    first, second = backends(), backends()
    await first.start()
    await until_ready(first)
    call = OneCall(first, command="echo before; sleep 2; echo after")
    async with call.source(await call.ready()) as source:
        await call.read(source, FrameKind.STDOUT)
    await first.stop()
    await second.start()
    await until_ready(second)
    found = await second.find(call.name, call.execution_id)
    assert found is not None
    await call.read(found.resume(call.decoder.offset))
    await found.release()
    assert call.stdout == b"before\nafter\n"


async def test_result_outlives_the_runner(backend: KubernetesBackend) -> None:
    """When the runner has left, status and log still hold the report and all the output."""
    call = OneCall(backend, code="print('kept')")
    sandbox = await call.ready()
    async with call.source(sandbox) as source:
        await call.read(source)
    words = await sandbox.last_words()
    await sandbox.release()
    assert words.report is not None
    assert words.report["exit_code"] == 0
    assert words.log is not None
    assert b"".join(text for kind, text in words.log.frames if kind is FrameKind.STDOUT) == b"kept\n"


async def test_garbage_of_a_crashed_service_is_collected(backend: KubernetesBackend, own_namespace: Namespace) -> None:
    """A Job that no execution wants goes, and its pod with it."""
    call = OneCall(backend, command="sleep 60")
    await call.ready()

    async def nobody(_execution_id: str) -> bool:
        return False

    assert await backend.collect_garbage(nobody) >= 1
    await asyncio.to_thread(own_namespace.wait_empty)
