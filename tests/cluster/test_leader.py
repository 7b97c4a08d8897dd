"""The election on a real API server."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import pytest
from support.cluster import Namespace

from executor_api.backends.kubernetes.client import ApiClient
from executor_api.backends.kubernetes.credentials import load
from executor_api.backends.kubernetes.leader import Leadership
from executor_api.backends.kubernetes.metrics import NoMetrics

pytestmark = pytest.mark.cluster

NOTICED_SECONDS = 15
REPLICA = """
import asyncio, os, sys
from executor_api.backends.kubernetes.client import ApiClient
from executor_api.backends.kubernetes.credentials import load
from executor_api.backends.kubernetes.leader import Leadership
from executor_api.backends.kubernetes.metrics import NoMetrics

async def work():
    print("leading", flush=True)
    await asyncio.Event().wait()

async def main():
    async with ApiClient(await load("", "", os.environ), NoMetrics()) as client:
        await Leadership(client, sys.argv[1], "test", "doomed").run(work)

asyncio.run(main())
"""


async def test_a_killed_leader_is_replaced(own_namespace: Namespace) -> None:
    """A process that leads is killed; another leads within 15 s, and gives the Lease back when it leaves."""
    doomed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", REPLICA, own_namespace.name, stdout=asyncio.subprocess.PIPE
    )
    assert doomed.stdout is not None
    async with asyncio.timeout(90), ApiClient(await load("", "", os.environ), NoMetrics()) as client:
        while b"leading" not in (line := await doomed.stdout.readline()):
            assert line
            assert not line.startswith(b"Traceback")
        heir = Leadership(client, own_namespace.name, "test", "heir")
        leads = asyncio.Event()

        async def work() -> None:
            leads.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(heir.run(work))
        while heir.holder != "doomed":  # noqa: ASYNC110 - it tells its state, and no more
            await asyncio.sleep(0.01)
        doomed.kill()
        killed = time.monotonic()
        await doomed.wait()
        await leads.wait()
        seconds = time.monotonic() - killed
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        lease = await client.get(
            f"/apis/coordination.k8s.io/v1/namespaces/{own_namespace.name}/leases/executor-api-test"
        )
    assert seconds <= NOTICED_SECONDS
    assert (lease["spec"].get("holderIdentity") or "", lease["spec"]["leaseTransitions"]) == ("", 1)
