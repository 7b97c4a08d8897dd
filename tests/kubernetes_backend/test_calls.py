"""A call through the backend, from Job to report, and the ways in which its connections can break."""

from __future__ import annotations

import asyncio

import pytest

from executor_api.backends.base import ClaimedError, ConnectionLostError, NotTakenError
from executor_api.backends.kubernetes.settings import DispatchMode
from executor_runner.protocol.frames import FrameDecoder, FrameKind
from kubernetes_backend.fake_apiserver import PODS, status
from kubernetes_backend.world import World, read, ready, until


def _kinds(journal: bytes) -> list[FrameKind]:
    return [frame.kind for frame in FrameDecoder().feed(journal)]


@pytest.mark.parametrize("mode", [DispatchMode.AUTO, DispatchMode.PROXY])
async def test_call_runs_and_leaves_nothing(world: World, mode: DispatchMode) -> None:
    """The runner gets the call once, its journal comes back whole, and release removes Job and pod."""
    backend = await world.started(mode)
    sandbox = await ready(backend)
    runner = world.runners["x-1"]
    reading = asyncio.create_task(read(sandbox.dispatch(b'{"call": 1}')))
    await runner.claimed.wait()
    await runner.write(FrameKind.STDOUT, b"1\n")
    await runner.finish()
    assert _kinds(await reading) == [FrameKind.STDOUT, FrameKind.REPORT]
    assert runner.calls == [b'{"call": 1}']
    await sandbox.release()
    assert runner.done.is_set() or mode is DispatchMode.PROXY, "through the proxy, the deletion may overtake it"
    assert (world.api.objects.all("jobs"), world.api.objects.all("pods")) == ([], [])


async def test_details_name_job_pod_and_node(world: World) -> None:
    """Once it runs, a sandbox tells where."""
    sandbox = await ready(await world.started())
    details = sandbox.details
    assert (details.job, details.pod, details.node, details.image) == ("x-1", "x-1-abcde", "node-1", "sandbox:1")


async def test_pod_ip_out_of_reach_falls_back_to_proxy(world: World) -> None:
    """Where pod addresses lead nowhere, the API server's proxy carries the call, and the health note says so."""
    world.pod_ip = "127.77.99.99"
    backend = await world.started()
    sandbox = await ready(backend)
    runner = world.runners["x-1"]
    reading = asyncio.create_task(read(sandbox.dispatch(b"{}")))
    await runner.claimed.wait()
    await runner.finish()
    assert _kinds(await reading) == [FrameKind.REPORT]
    assert any("/proxy/v1/call" in path for _, path in world.api.requests)


async def test_call_is_not_sent_to_a_stranger(world: World) -> None:
    """Where another server answers at a pod's address, the call goes through the proxy to the pod."""
    world.pod_ip = await world.stranger()
    sandbox = await ready(await world.started())
    reading = asyncio.create_task(read(sandbox.dispatch(b"secret call")))
    runner = world.runners["x-1"]
    await runner.claimed.wait()
    await runner.finish()
    assert _kinds(await reading) == [FrameKind.REPORT]
    assert [method for method, _ in world.strangers_requests] == ["GET"]


async def test_second_call_is_refused(world: World) -> None:
    """A runner that has a call refuses another."""
    backend = await world.started()
    sandbox = await ready(backend)
    reading = asyncio.create_task(read(sandbox.dispatch(b"{}")))
    runner = world.runners["x-1"]
    await runner.claimed.wait()
    with pytest.raises(ClaimedError):
        await read(sandbox.dispatch(b"{}"))
    runner.execution_id = "somebody else's"
    for source in (sandbox.dispatch(b"{}"), sandbox.resume(0)):
        with pytest.raises(NotTakenError, match="claimed by somebody else's"):
            await read(source)
    await runner.finish()
    await reading
    assert len(runner.calls) == 1


async def test_cut_connection_is_taken_up_again(world: World) -> None:
    """After a cut, the journal goes on from an offset, byte for byte."""
    backend = await world.started()
    sandbox = await ready(backend)
    runner = world.runners["x-1"]
    got = bytearray()

    async def collect() -> None:
        async for data in sandbox.dispatch(b"{}"):
            got.extend(data)

    reading = asyncio.create_task(collect())
    await runner.claimed.wait()
    await runner.write(FrameKind.STDOUT, b"before")
    await until(lambda: len(got) == len(runner.journal))
    runner.cut()
    with pytest.raises(ConnectionLostError):
        await reading
    assert await sandbox.alive()
    await runner.write(FrameKind.STDOUT, b"after")
    await runner.finish()
    got.extend(await read(sandbox.resume(len(got))))
    assert bytes(got) == bytes(runner.journal)


async def test_cancel_reaches_the_runner(world: World) -> None:
    """Cancelling asks the runner, not the cluster."""
    sandbox = await ready(await world.started())
    await sandbox.cancel()
    assert world.runners["x-1"].cancelled
    assert world.api.objects.get("jobs", "x-1") is not None


async def test_proxy_that_is_forbidden_is_a_lost_connection(world: World) -> None:
    """RBAC without pods/proxy shows as a lost connection that names it, not as a defect."""
    backend = await world.started(DispatchMode.PROXY)
    sandbox = await ready(backend)
    world.api.fail("POST", PODS, lambda: status(403, "Forbidden", "cannot create resource pods/proxy"))
    with pytest.raises(ConnectionLostError, match="pods/proxy"):
        await read(sandbox.dispatch(b"{}"))
