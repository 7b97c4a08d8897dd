"""Calls by way of a backend alone, without the service."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

from executor_api.backends.base import Claim
from executor_api.backends.kubernetes.backend import KubernetesBackend
from executor_api.backends.kubernetes.sandbox import KubernetesSandbox
from executor_api.domain.plan import Plan, plan
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.runner_call import runner_call
from executor_api.domain.template import Template
from executor_runner.protocol.frames import Frame, FrameDecoder, FrameKind, encode_json

READY_SECONDS = 60


async def until_ready(backend: KubernetesBackend) -> None:
    """Wait until it can serve."""
    async with asyncio.timeout(READY_SECONDS):
        while not backend.health().ready:  # noqa: ASYNC110 - it tells its state, and no more
            await asyncio.sleep(0.05)


class OneCall:
    """One call on its way, driven step by step."""

    def __init__(self, backend: KubernetesBackend, template: dict[str, Any] | None = None, **request: Any) -> None:
        self.backend = backend
        self.plan: Plan = plan(ExecutionRequest(**request), {"default": Template(name="default", **(template or {}))})
        self.name = f"x-{secrets.token_hex(8)}"
        self.execution_id = f"e-{self.name}"
        self.frames: list[Frame] = []
        self.decoder = FrameDecoder()

    async def ready(self) -> KubernetesSandbox:
        """Make the sandbox and wait until it can be dialled."""
        sandbox = await self.backend.create(self.name, Claim(self.execution_id, "t", self.plan))
        await sandbox.ready()
        return sandbox

    def source(self, sandbox: KubernetesSandbox) -> AbstractAsyncContextManager[AsyncGenerator[bytes, None]]:
        """Dispatch the call; gives its journal and closes the connection behind it."""
        return aclosing(sandbox.dispatch(encode_json(runner_call(self.plan, self.execution_id, "t"))))

    async def read(self, source: AsyncIterator[bytes], enough: FrameKind = FrameKind.REPORT) -> None:
        """Read until a frame of this kind."""
        async for data in source:
            self.frames += self.decoder.feed(data)
            if any(frame.kind is enough for frame in self.frames):
                return

    @property
    def stdout(self) -> bytes:
        """What it has printed so far."""
        return b"".join(frame.payload for frame in self.frames if frame.kind is FrameKind.STDOUT)
