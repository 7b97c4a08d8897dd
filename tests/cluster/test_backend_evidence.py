"""What a real cluster does to sandboxes, and that it is told as what it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.cluster import Namespace

from cluster.calls import OneCall
from executor_api.backends.base import SandboxFailedError
from executor_api.backends.kubernetes.backend import KubernetesBackend
from executor_api.domain.outcome import Reason
from executor_runner.protocol.frames import FrameKind

pytestmark = pytest.mark.cluster

GPU = {"gpu": {"max_count": 1, "resources": ["example.com/none"]}, "start_seconds": 8}


@pytest.mark.parametrize(
    ("template", "request_fields", "reason", "part"),
    [
        ({"image": "localhost/missing:1"}, {}, Reason.IMAGE_PULL, "localhost/missing:1"),
        ({"image": "localhost/missing:1", "image_pull_policy": "Never"}, {}, Reason.IMAGE_PULL, "NeverPull"),
        ({"image": "UPPER:case:2"}, {}, Reason.IMAGE_PULL, "InvalidImageName"),
        ({"node_selector": {"no": "such-node"}, "start_seconds": 8}, {}, Reason.UNSCHEDULABLE, "nodes are available"),
        (GPU, {"resources": {"gpu": {"count": 1}}}, Reason.UNSCHEDULABLE, "Insufficient example.com/none"),
        ({"priority_class": "no-such-class"}, {}, Reason.REJECTED_TEMPLATE, "no-such-class"),
        ({"service_account": "nobody"}, {}, Reason.REJECTED_TEMPLATE, "nobody"),
        ({"runtime_class": "no-such-runtime"}, {}, Reason.REJECTED_TEMPLATE, "no-such-runtime"),
        ({"node_selector": {"not a label": "x"}}, {}, Reason.REJECTED_TEMPLATE, "nodeSelector"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else None,
)
async def test_sandbox_that_does_not_start(
    backend: KubernetesBackend, template: dict[str, Any], request_fields: dict[str, Any], reason: Reason, part: str
) -> None:
    """Each cause is named, in the cluster's words, and the Job is removed."""
    call = OneCall(backend, template, code="1", **request_fields)
    with pytest.raises(SandboxFailedError) as caught:
        await call.ready()
    found = await backend.find(call.name, call.execution_id)
    if found is not None:
        await found.release()
    assert (caught.value.evidence.reason, part in caught.value.evidence.message) == (reason, True), (
        caught.value.evidence
    )


async def test_quota(backend: KubernetesBackend, own_namespace: Namespace) -> None:
    """A pod that the quota has no room for."""
    call = OneCall(backend, code="1")
    with own_namespace.quota(pods="0"), pytest.raises(SandboxFailedError) as caught:
        await call.ready()
    assert caught.value.evidence.reason is Reason.QUOTA
    found = await backend.find(call.name, call.execution_id)
    assert found is not None
    await found.release()


@pytest.mark.parametrize(
    ("disturb", "reason", "part"),
    [
        (lambda space, pod, _job: space.delete_pod(pod), Reason.SANDBOX_LOST, "was deleted"),
        (lambda space, _pod, job: space.delete_job(job), Reason.SANDBOX_LOST, "Job was deleted"),
        (lambda space, pod, _job: space.evict(pod), Reason.EVICTED, "EvictionByEvictionAPI"),
    ],
    ids=["pod deleted", "Job deleted", "pod evicted"],
)
async def test_sandbox_that_is_ended_from_outside(
    backend: KubernetesBackend,
    own_namespace: Namespace,
    disturb: Callable[[Namespace, str, str], None],
    reason: Reason,
    part: str,
) -> None:
    """The runner reports that it was told to leave, with the output; the cluster shows by whom."""
    call = OneCall(backend, command="echo before; sleep 60")
    sandbox = await call.ready()
    async with call.source(sandbox) as source:
        await call.read(source, FrameKind.STDOUT)
        assert sandbox.details.pod is not None
        disturb(own_namespace, sandbox.details.pod, call.name)
        await call.read(source)
    evidence = await sandbox.evidence()
    await sandbox.release()
    assert b'"cause":"terminated"' in call.frames[-1].payload
    assert evidence is not None
    assert (evidence.reason, part in evidence.message) == (reason, True), evidence


async def test_nothing_is_left(own_namespace: Namespace) -> None:
    """After all of these, no Job and no pod of ours is there."""
    await asyncio.to_thread(own_namespace.wait_empty)
