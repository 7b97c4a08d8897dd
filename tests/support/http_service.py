"""The real application on a real socket, around the real service; only the sandboxes are scripted."""

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
from starlette.applications import Starlette

from executor_api.domain.request import Isolation
from executor_api.domain.template import GpuAllowance, Template
from executor_api.entrance import ways_to_tell
from executor_api.http import application
from executor_api.http.metrics import Metrics
from executor_api.http.protocol import protocol
from executor_api.http.routes import Api
from executor_api.service.execution_service import ExecutionService, Limits
from executor_api.service.sqlite_store import SqliteStore
from executor_api.service.tenant_file import TenantFile
from executor_api.settings import Settings
from support.playback import WAITING, PlaybackBackend

TEMPLATES = {
    "default": Template(name="default"),
    "gpu": Template(name="gpu", gpu=GpuAllowance(max_count=2), isolation=(Isolation.SINGLE_USE,)),
}


@dataclass
class Service:
    """The application as its clients see it, and the parts a test scripts or looks into."""

    client: httpx.AsyncClient
    port: int
    executions: ExecutionService
    backend: PlaybackBackend
    settings: Settings
    document: dict[str, Any]
    audit: list[dict[str, Any]]

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


@contextlib.asynccontextmanager
async def running(tmp_path: Path, settings: Settings, connections: int = 1000) -> AsyncIterator[Service]:
    """Serve until the block ends; calls that still wait are ended then. ``connections``: the most there are at once."""
    backend, metrics = PlaybackBackend(), Metrics()
    limits = Limits(
        max_concurrency=settings.max_concurrency,
        max_queue=settings.max_queue,
        keep_seconds=3600,
        keep_bytes=2**30,
        tenants=TenantFile(settings.tenants).reload(TEMPLATES),
    )
    service = ExecutionService(
        backend, SqliteStore(tmp_path / "executions.sqlite3"), TEMPLATES, limits, metrics=metrics
    )
    audit: list[dict[str, Any]] = []
    service.audit.write = lambda event, **fields: audit.append({"event": event, **fields})
    await service.start()
    ways = ways_to_tell(settings, {})
    app = application.build(Api(service, settings, ways), metrics, connections)
    async with (
        _listening(app, settings, connections) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        document = (await client.get("/openapi.json")).json()
        yield Service(client, port, service, backend, settings, document, audit)
        backend.release.set()
    for way in ways:
        await way.close()
    await service.stop(1)


@contextlib.asynccontextmanager
async def _listening(app: Starlette, settings: Settings, most: int) -> AsyncIterator[int]:
    """Serve on a free port. uvicorn's parts without its loop, which looks for a signal only every 0.1 s."""
    http = protocol(settings.body_timeout_seconds, most)
    config = uvicorn.Config(app, http=http, lifespan="off", log_config=None, proxy_headers=False)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        await server.startup(sockets=[sock])
        yield port
        for listener in server.servers:
            listener.close()
        for connection in list(server.server_state.connections):
            connection.shutdown()
        await gone(server.server_state.tasks)


async def gone(tasks: set[asyncio.Task[Any]]) -> None:
    """Wait until these tasks have ended; fail if they don't."""
    if tasks:
        _, pending = await asyncio.wait(tasks, timeout=60)
        assert not pending
