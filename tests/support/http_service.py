"""The real application on a real socket, around the real executor; only the sandboxes are scripted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from executor_api.service.executor import Executor, Limits

from executor_api.app import create_app
from executor_api.domain.template import GpuAllowance, Template
from executor_api.http.metrics import Metrics
from executor_api.service.sqlite_store import SqliteStore
from executor_api.settings import Settings
from support.scripted import WAITING, ScriptedBackend

TEMPLATES = {
    "default": Template(name="default"),
    "gpu": Template(name="gpu", gpu=GpuAllowance(max_count=2)),
}


@dataclass
class Service:
    """The application as its clients see it, and the parts a test scripts or looks into."""

    client: httpx.AsyncClient
    port: int
    executor: Executor
    backend: ScriptedBackend
    settings: Settings
    document: dict[str, Any]

    async def count(self) -> int:
        """How many executions exist."""
        return len((await self.client.get("/executions", params={"limit": 200})).json()["executions"])

    async def waiting(self, **headers: str) -> str:
        """Start a call that runs until the test ends it; return its id once it runs."""
        answer = await self.client.post("/execute", json={"code": WAITING}, headers={"Prefer": "wait=0", **headers})
        await self.backend.waiting.wait()
        execution_id: str = answer.json()["id"]
        return execution_id

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A raw connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


ServiceMaker = Callable[..., Awaitable[Service]]


class StartedServer(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        await super().startup(sockets)
        self.listening.set()


@contextlib.asynccontextmanager
async def running(tmp_path: Path, settings: Settings) -> AsyncIterator[Service]:
    """Serve until the block ends; calls that still wait are ended then."""
    backend, metrics = ScriptedBackend(), Metrics()
    limits = Limits(
        max_concurrency=settings.max_concurrency, max_queue=settings.max_queue, keep_seconds=3600, keep_bytes=2**30
    )
    executor = Executor(backend, SqliteStore(tmp_path / "executions.sqlite3"), TEMPLATES, limits, metrics=metrics)
    await executor.start()
    app = create_app(executor, settings, metrics)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        config = uvicorn.Config(app, http="httptools", lifespan="off", log_config=None, timeout_graceful_shutdown=1)
        server = StartedServer(config)
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        await server.listening.wait()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield Service(client, port, executor, backend, settings, app.openapi())
        server.should_exit = True
        backend.release.set()
        await serving
    await executor.stop(1)
