"""A real service on a real store, over a scripted backend; and what a SIGKILL would leave of it."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from executor_api.domain.execution import Event, Execution
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.template import Template
from executor_api.service.execution_service import ExecutionService, Limits, Submission
from executor_api.service.sqlite_records import events_after
from executor_api.service.sqlite_store import SqliteStore
from executor_api.service.store import Store
from executor_api.service.tracing import NoTracing, Tracing
from support.scripted import ScriptedBackend, ScriptedSandbox

SECONDS = 60.0


@dataclass
class House:
    """The services of one test: one after another on the same backend, as a restarted service is."""

    backend: ScriptedBackend
    data_dir: Path
    services: list[ExecutionService] = field(default_factory=list)
    numbers: Any = field(default_factory=itertools.count)
    tracing: Tracing = field(default_factory=NoTracing)

    async def open(
        self, store: Store | None = None, templates: dict[str, Template] | None = None, **limits: Any
    ) -> ExecutionService:
        """Start a service on the house's data."""
        chosen = {"max_concurrency": 64, "max_queue": 1000, "keep_seconds": 1e6, "keep_bytes": 1 << 30, **limits}
        service = ExecutionService(
            self.backend,
            store or SqliteStore(self.data_dir / "executions.sqlite3"),
            templates if templates is not None else {"default": Template(name="default")},
            Limits(**chosen),
        )
        service.trace(self.tracing)
        self.services.append(service)
        await service.start()
        return service

    async def crash(self, service: ExecutionService) -> None:
        """Go on with what the disk held at this instant: what a killed service would leave."""
        there = self.data_dir.with_name(f"crash-{next(self.numbers)}")
        shutil.copytree(self.data_dir, there)
        await service.stop(0)
        self.data_dir = there

    async def events_on_disk(self, execution: Execution, count: int) -> list[Event]:
        """The stored events, once there are so many; read by a process that is not the service."""
        path = self.data_dir / "executions.sqlite3"
        while True:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader:
                events = events_after(reader, execution.id, 0)
            if len(events) >= count:
                return events
            await asyncio.sleep(0.01)  # nothing tells of a flush but the disk

    def sandbox(self, execution: Execution) -> ScriptedSandbox:
        """The sandbox of an execution."""
        return self.backend.made[f"x-{execution.id.lower()}"]


def submission(key: str | None = None, tenant: str = "default", **request: Any) -> Submission:
    """What a client hands in; a small Python call unless ``request`` says otherwise."""
    fields = {"code": "print(1)"} | request
    return Submission(request=ExecutionRequest(**fields), tenant=tenant, idempotency_key=key)


async def ended(service: ExecutionService, submitted: Submission) -> Execution:
    """Submit and wait for the end."""
    accepted = await service.submit(submitted)
    return await service.wait(accepted.id, SECONDS)


async def history(service: ExecutionService, execution: Execution, after: int = 0) -> list[Event]:
    """All its events, to the end."""
    return [event async for event in service.events(execution.tenant, execution.id, after)]
