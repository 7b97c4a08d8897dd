"""Traces of calls on a cluster: how each came by its sandbox, and where that was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.collector import Collector, Seen, tracing
from support.house import submission

from executor_api.domain.execution import Execution
from executor_api.domain.pool_settings import PoolSettings
from executor_api.domain.template import Template
from executor_api.service.execution_service import ExecutionService, Limits
from executor_api.service.sqlite_store import SqliteStore
from executor_runner.protocol.frames import FrameKind
from kubernetes_backend.fake_runner import FakeRunner
from kubernetes_backend.world import World, until

SECONDS = 60
POOLED = Template(name="pooled", pool=PoolSettings(size=1))


@dataclass
class Traced:
    """A service on the fake cluster, and the collector it sends to."""

    world: World
    service: ExecutionService
    collector: Collector

    async def call(self, template: str) -> tuple[Execution, FakeRunner]:
        """Make one and play its runner; returns how it ended."""
        accepted = await self.service.submit(submission(template=template))
        runner = await self._claimed()
        runner.execution_id = accepted.id
        await runner.write(FrameKind.STARTED, b"{}")
        await runner.finish(execution_id=accepted.id)
        return await self.service.wait(accepted.id, SECONDS), runner

    async def _claimed(self) -> FakeRunner:
        def holders() -> list[FakeRunner]:
            return [found for found in self.world.runners.values() if found.calls and not found.complete]

        await until(holders)
        return holders()[0]

    async def tree(self, execution: Execution) -> tuple[Seen, list[Seen]]:
        """Its spans."""
        return await asyncio.to_thread(self.collector.tree, execution.id)


@pytest.fixture
async def traced(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Traced]:
    templates = {"default": Template(name="default"), "pooled": POOLED}
    limits = Limits(max_concurrency=8, max_queue=8, keep_seconds=3600, keep_bytes=2**30)
    store = SqliteStore(tmp_path / "executions.sqlite3")
    async with tracing(monkeypatch) as (collector, sender):
        service = ExecutionService(world.backend(), store, templates, limits)
        service.trace(sender)
        await service.start()
        try:
            await until(lambda: service.health().ready and all(pool.ready for pool in service.pools()))
            yield Traced(world, service, collector)
        finally:
            await service.stop(0)


async def test_a_call_that_found_a_sandbox_waiting(traced: Traced) -> None:
    """It was claimed, none was made, and the span names its pod and node."""
    execution, runner = await traced.call("pooled")
    top, below = await traced.tree(execution)
    assert [span.name for span in below] == ["queue", "claim", "record", "dispatch", "run", "collect", "settle"]
    sandbox = execution.sandbox
    assert sandbox is not None
    assert {name: value for name, value in top.attributes.items() if name.startswith("k8s.")} == {
        "k8s.job.name": sandbox.job,
        "k8s.pod.name": f"{sandbox.job}-abcde",
        "k8s.pod.uid": sandbox.pod_uid,
        "k8s.node.name": "node-1",
    }
    assert (top.attributes["executor.start"], top.attributes["executor.backend"]) == ("warm", "kubernetes")
    (call,) = runner.calls
    assert json.loads(call)["env"]["TRACEPARENT"] == f"00-{top.trace_id}-{top.span_id}-03"


async def test_a_call_that_had_its_sandbox_made(traced: Traced) -> None:
    """The span of that has the cluster's part: until it was created, until it had a node, until it ran."""
    execution, _ = await traced.call("default")
    top, below = await traced.tree(execution)
    names = [span.name for span in below]
    assert names == ["queue", "claim", "create", "record", "dispatch", "run", "collect", "settle"]
    create = below[names.index("create")]
    assert set(create.attributes) == {"executor.create_ms", "executor.schedule_ms", "executor.start_ms"}
    assert sum(create.attributes.values()) <= (create.end - create.start) * 1000 + 1
    assert (top.attributes["executor.start"], top.attributes["executor.cold_reason"]) == (
        "cold",
        execution.cold_reason,
    )


async def test_a_call_whose_sandbox_never_came_to_run(traced: Traced) -> None:
    """What failed is making it, for the cluster's reason."""
    traced.world.api.script = traced.world.play_missing_image
    accepted = await traced.service.submit(submission())
    execution = await traced.service.wait(accepted.id, SECONDS)
    top, below = await traced.tree(execution)
    assert [span.name for span in below] == ["queue", "claim", "create", "settle"]
    assert [span.attributes["error.type"] for span in (top, *below) if span.failed] == ["image_pull"] * 2
