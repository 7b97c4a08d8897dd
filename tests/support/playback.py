"""A backend inside the test: its sandboxes play frames that the test wrote down."""

# ruff: noqa: D102, ARG002  the protocols that it follows say what the methods mean, and give it more than it needs

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from executor_api.backends.base import Claim, Health, LastWords, Miss, Sandbox, SandboxTimings
from executor_api.domain.execution import SandboxDetails, Start
from executor_api.domain.outcome import Evidence, Reason
from executor_api.domain.pool import PoolStatus, Share
from executor_api.domain.template import Template
from executor_runner.protocol.frames import FrameKind, encode_frame, encode_json
from executor_runner.protocol.shapes import Call, Cause
from support.reports import report

Frames = list[tuple[FrameKind, bytes]]

WAITING = "wait"
"""A call with this code prints ``waiting`` and ends when the test says so."""


def _printed(frames: Frames) -> dict[str, int]:
    """What a report says of such frames."""
    sizes = {kind: sum(len(data) for found, data in frames if found is kind) for kind in FrameKind}
    gaps = [json.loads(data) for kind, data in frames if kind is FrameKind.GAP]
    dropped = [sum(gap["dropped_bytes"] for gap in gaps if gap["stream"] == stream) for stream in (1, 2)]
    return {
        "stdout_bytes": sizes[FrameKind.STDOUT] + dropped[0],
        "stderr_bytes": sizes[FrameKind.STDERR] + dropped[1],
        "stdout_dropped_bytes": dropped[0],
        "stderr_dropped_bytes": dropped[1],
    }


@dataclass
class PlaybackSandbox:
    """Plays the frames that belong to its call's code."""

    name: str
    backend: PlaybackBackend
    start: Start = Start.WARM
    follows: str = ""
    timings: SandboxTimings = field(default_factory=lambda: SandboxTimings(create=0.5))
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def details(self) -> SandboxDetails:
        return SandboxDetails(self.name, "local", image="scripted")

    async def ready(self) -> None:
        return

    async def dispatch(self, call: bytes) -> AsyncIterator[bytes]:
        wanted: Call = json.loads(call)
        self.backend.calls.append(wanted)
        code = wanted["python"]["code"] if wanted["python"] else ""
        frames, changes = self.backend.scripts.get(code, ([(FrameKind.STDOUT, code.encode())], {}))
        yield encode_frame(FrameKind.STARTED, encode_json({"setup_ms": 0.1}))
        for kind, data in frames:
            yield encode_frame(kind, data)
        if code == WAITING:
            changes = await self._released()
        yield encode_frame(FrameKind.REPORT, encode_json(report(wanted["execution_id"], **_printed(frames), **changes)))

    async def _released(self) -> dict[str, Any]:
        self.backend.waiting.set()
        ends = [asyncio.ensure_future(event.wait()) for event in (self.cancelled, self.backend.release)]
        _, pending = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        return {"cause": Cause.CANCELLED, "exit_code": None} if self.cancelled.is_set() else {}

    async def resume(self, offset: int) -> AsyncIterator[bytes]:
        raise NotImplementedError
        yield b""

    async def cancel(self) -> None:
        self.cancelled.set()

    async def alive(self) -> bool:
        return True

    async def last_words(self) -> LastWords:
        return LastWords(Evidence(Reason.SANDBOX_LOST, "scripted sandboxes leave nothing"))

    async def evidence(self) -> None:
        return None

    async def release(self, *, sound: bool = False, leaky: bool = False) -> None:
        return


@dataclass
class PlaybackBackend:
    """Makes sandboxes that play ``scripts``: code to frames and changes of the report."""

    name: str = "local"
    scripts: dict[str, tuple[Frames, dict[str, Any]]] = field(
        default_factory=lambda: {WAITING: ([(FrameKind.STDOUT, b"waiting\n")], {})}
    )
    calls: list[Call] = field(default_factory=list)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    problems: tuple[str, ...] = ()
    fault: Exception | None = None
    statuses: tuple[PoolStatus, ...] = ()

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        self.release.set()

    def use_templates(self, templates: Mapping[str, Template]) -> None:
        pass

    def health(self) -> Health:
        if self.fault is not None:
            raise self.fault
        return Health(not self.problems, self.problems, ("scripted",))

    async def claim(self, claim: Claim) -> Sandbox | Miss:
        return Miss("nothing waits")

    def pools(self) -> tuple[PoolStatus, ...]:
        return self.statuses

    def use_share(self, share: Share) -> None:
        """There is nothing to share."""

    def obstacle(self, name: str, execution_id: str) -> str:
        return ""

    async def create(self, name: str, claim: Claim) -> PlaybackSandbox:
        return PlaybackSandbox(name, self)

    async def find(self, name: str, execution_id: str) -> None:
        return None

    async def collect_garbage(self, is_wanted: Callable[[str], Awaitable[bool]]) -> int:
        return 0
