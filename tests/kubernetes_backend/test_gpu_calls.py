"""Calls on nodes with a GPU, from the service to a real runner that asks the driver: what of the memory comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import yaml
from prometheus_client import generate_latest
from support.house import submission

from executor_api.domain.execution import Execution, Start
from executor_api.domain.outcome import Status
from executor_api.domain.pool_settings import PoolSettings
from executor_api.domain.template import GpuAllowance, Template
from executor_api.http.metrics import Metrics
from executor_api.service.execution_service import ExecutionService, Limits
from executor_api.service.sqlite_store import SqliteStore
from kubernetes_backend.conftest import next_address
from kubernetes_backend.gpu_nodes import GpuNodes
from kubernetes_backend.world import until

SECONDS = 120
LEAK = 400_000_000
SAY = "import os\nwith open(os.environ['NVML_SCRIPT'], 'a') as script:\n    script.write('''{}\n''')\n"
"""Code that has the driver say something from then on."""
LEAKS = SAY.format(f"used 0 {LEAK}")
COMES_LATE = SAY.format(f"used 0 {LEAK}\nused 0 0 3")
WITH_GPU = Template(
    name="gpu", pool=PoolSettings(size=2), gpu=GpuAllowance(count=1, max_count=1), start_seconds=SECONDS
)
ALERTS = Path(__file__).parents[2] / "charts" / "executor" / "files" / "alerts.yaml"


class Cluster:
    """A service on GPU nodes."""

    def __init__(self, world: GpuNodes, service: ExecutionService, metrics: Metrics) -> None:
        self.world, self.service, self._metrics = world, service, metrics

    async def call(self, code: str) -> Execution:
        """Make one and wait for its end."""
        accepted = await self.service.submit(submission(code=code, template="gpu"))
        found = await self.service.wait(accepted.id, SECONDS)
        assert found.outcome is not None
        return found

    async def full(self, without: frozenset[str] = frozenset()) -> None:
        """Until the pool is, and none of it on these nodes."""
        await until(
            lambda: (
                all(pool.ready == pool.desired for pool in self.service.pools("t")) and not without & self.waiting_on()
            ),
            SECONDS,
        )

    def problems(self) -> str:
        """What the service says is wrong with its pools."""
        return " ".join(problem for pool in self.service.pools("t") for problem in pool.problems)

    async def said_of(self, execution: Execution) -> list[str]:
        """What `explain` says of its GPU."""
        explanation = await self.service.explain(execution.tenant, execution.id)
        return [sentence for sentence in explanation.sentences if "GPU" in sentence]

    def count(self, name: str) -> float:
        """A figure as Prometheus gets it."""
        lines = generate_latest(self._metrics.registry).decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    def waiting_on(self) -> set[str]:
        """Nodes of the sandboxes that wait."""
        return {self.world.pods[job].node for job in self.world.waiting() if job in self.world.pods}


@asynccontextmanager
async def gpu_nodes(tmp_path: Path, nodes: int) -> AsyncIterator[Cluster]:
    """A service with a full pool on a cluster of so many GPUs."""
    world = GpuNodes(tmp_path, next_address, nodes)
    await world.api.start()
    metrics, templates = Metrics(), {"default": Template(name="default"), "gpu": WITH_GPU}
    limits = Limits(max_concurrency=64, max_queue=64, keep_seconds=3600, keep_bytes=2**30)
    service = ExecutionService(
        world.backend(), SqliteStore(tmp_path / "executions.sqlite3"), templates, limits, metrics=metrics
    )
    try:
        await service.start()
        await until(lambda: service.health().ready, SECONDS)
        cluster = Cluster(world, service, metrics)
        await cluster.full()
        yield cluster
    finally:
        await service.stop(0)
        await world.close()


async def test_each_of_twenty_leaks_is_found_at_once_and_its_node_left(tmp_path: Path) -> None:
    """The first of 20 calls that leak 400 MB is told, counted and explained, its sandbox ends, and its node is left.

    So it is with the other 19, side by side on a node each: none of them meets the memory of another.
    """
    async with gpu_nodes(tmp_path, nodes=24) as cluster:
        first = await cluster.call(LEAKS)
        assert first.outcome is not None
        assert first.outcome.gpu == {
            "devices": 1,
            "before_bytes": 0,
            "after_bytes": LEAK,
            "leaked_bytes": LEAK,
            "returned": False,
        }
        assert (first.outcome.status, first.start) == (Status.SUCCEEDED, Start.WARM)
        assert first.sandbox is not None
        assert first.sandbox.node is not None
        assert first.sandbox.job is not None
        await until(lambda: cluster.count("executor_gpu_leaks_total") == 1)
        assert cluster.count("executor_gpu_leaked_bytes_total") == LEAK
        (said,) = await cluster.said_of(first)
        assert said.startswith(
            "GPU memory that did not come back after its end: 381 MiB; so its sandbox serves nobody "
        )
        await until(lambda: not cluster.world.pods[first.sandbox.job].runs, SECONDS)
        await until(lambda: f"node {first.sandbox.node}" in cluster.problems())
        await cluster.full(without=frozenset({first.sandbox.node}))

        rest = await asyncio.gather(*(cluster.call(LEAKS) for _ in range(19)))
        calls = [first, *rest]
        assert [call.outcome.gpu["leaked_bytes"] for call in calls if call.outcome and call.outcome.gpu] == [LEAK] * 20
        left = frozenset(call.sandbox.node for call in calls if call.sandbox and call.sandbox.node)
        assert len({call.sandbox.job for call in calls if call.sandbox}) == len(left) == 20
        await until(lambda: cluster.count("executor_gpu_leaks_total") == 20)
        assert cluster.count("executor_gpu_leaked_bytes_total") == 20 * LEAK
        await until(lambda: all(f"node {node}, " in cluster.problems() for node in left))
        await cluster.full(without=left)


async def test_memory_that_comes_late_keeps_nobody_off(tmp_path: Path) -> None:
    """A call whose memory is freed seconds after its end leaked nothing, and the next gets the same node."""
    async with gpu_nodes(tmp_path, nodes=2) as cluster:
        calls = [await cluster.call(COMES_LATE) for _ in range(2)]
        for call in calls:
            assert call.outcome is not None
            assert call.outcome.gpu is not None
            assert (call.outcome.gpu["returned"], call.outcome.gpu["leaked_bytes"]) == (True, 0)
            assert await cluster.said_of(call) == []
        await cluster.full()
        assert cluster.count("executor_gpu_leaks_total") == 0
        assert cluster.waiting_on() == {"gpu-0", "gpu-1"}


def test_the_alert_asks_for_what_is_counted() -> None:
    """Its expression is about the counter that the service exports."""
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    (alert,) = (rule for rule in rules if rule["alert"] == "ExecutorGpuMemoryLeaked")
    assert alert["expr"] == "increase(executor_gpu_leaks_total[15m]) > 0"
    assert "\nexecutor_gpu_leaks_total 0.0\n" in generate_latest(Metrics().registry).decode()
