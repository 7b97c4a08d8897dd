"""Short requests to a runner: whether it is ready, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping

from executor_api.backends.base import ConnectionLostError
from executor_api.backends.kubernetes.cluster import Cluster
from executor_api.backends.kubernetes.dialer import BOOT_SECONDS, RunnerRequest, is_runners
from executor_api.backends.kubernetes.errors import ConflictError, KubernetesError
from executor_api.backends.kubernetes.own_pod import dialable
from executor_api.backends.kubernetes.snapshot import PodSnapshot
from executor_api.errors import ConfigurationError
from executor_runner.protocol import CALL_PATH, RETIRE_PATH, read_holder


async def runner_answers(cluster: Cluster, job: str) -> None:
    """Ask a runner something that needs no token; while it boots, insist. Raises `ConnectionLostError`."""
    deadline = cluster.clock() + BOOT_SECONDS
    request = RunnerRequest(method="GET", path=CALL_PATH)

    def booting() -> bool:
        pod = cluster.pods.get(job)
        return cluster.clock() < deadline and pod is not None and pod.dialable

    try:
        async with cluster.dialer.open(dialable(cluster.pods.get(job), job), request, booting):
            raise ConnectionLostError(f"what answers in sandbox {job} is no runner")
    except (KubernetesError, ConfigurationError) as error:
        if not (isinstance(error, KubernetesError) and is_runners(error)):
            raise ConnectionLostError(str(error)) from error


async def tell_runner(
    cluster: Cluster, pod: PodSnapshot, method: str, path: str, token: str, params: Mapping[str, str] | None = None
) -> None:
    """Send a request whose answer says it all by its status. Raises `KubernetesError` and `ConfigurationError`."""
    request = RunnerRequest(method=method, path=path, token=token, params=dict(params or {}))
    async with cluster.dialer.open(pod, request):
        return


async def retire_runner(cluster: Cluster, pod: PodSnapshot, token: str) -> str | None:
    """Have the runner take no call any more, unless it has one: then whose, as an execution's id.

    Raises `KubernetesError` and `ConfigurationError`.
    """
    try:
        await tell_runner(cluster, pod, "POST", RETIRE_PATH, token)
    except ConflictError as error:
        return read_holder(error.message) or ""
    return None
