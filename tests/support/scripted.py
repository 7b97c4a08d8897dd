"""A backend in this process that does what a script says: real journals, cut anywhere, and every kind of bad luck."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from executor_api.backends.base import (
    Claim,
    ClaimedError,
    ConnectionLostError,
    Health,
    LastWords,
    Miss,
    NotTakenError,
    SandboxTimings,
)
from executor_api.domain.execution import SandboxDetails, Start
from executor_api.domain.outcome import Evidence, Reason
from executor_api.domain.pool import PoolStatus, Share
from executor_api.domain.template import Template
from executor_runner.protocol.frames import FrameKind, Stream, encode_artifact, encode_frame, encode_json
from executor_runner.protocol.podlog import LogCopy
from executor_runner.protocol.shapes import Cause
from support.pool_status import pool
from support.reports import report

LOST = Evidence(Reason.SANDBOX_LOST, "it is gone")


def stdout(text: bytes) -> bytes:
    """A frame of standard output."""
    return encode_frame(FrameKind.STDOUT, text)


def stderr(text: bytes) -> bytes:
    """A frame of standard error."""
    return encode_frame(FrameKind.STDERR, text)


def gap(stream: Stream, dropped: int) -> bytes:
    """A frame for bytes that were dropped."""
    return encode_frame(FrameKind.GAP, encode_json({"stream": int(stream), "dropped_bytes": dropped}))


def artifact(path: str, content: bytes) -> bytes:
    """A frame that brings back a file."""
    return encode_frame(FrameKind.ARTIFACT, encode_artifact(path, content))


class Fate(Enum):
    """What becomes of a request that hands over the call."""

    ARRIVES = "arrives"
    LOST = "never reaches the runner"
    ANSWER_LOST = "reaches the runner, and the connection breaks before the first byte"
    ACCEPTED_BEFORE = "finds that it had arrived before"
    TAKEN = "finds that somebody else's call was first"


@dataclass
class Script:
    """How one sandbox behaves. In ``frames``, an event is a gate: the child goes on once it is set."""

    frames: list[bytes | asyncio.Event] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    chunk: int = 7
    posts: list[Fate] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)  # the n-th connection breaks at the n-th offset
    cut_quietly: bool = False
    dies_at: int | None = None  # offset at which the sandbox is gone
    ready: asyncio.Event | None = None
    ready_error: Exception | None = None
    cancels_lost: int = 0
    deaf_to_cancel: bool = False
    last_words: LastWords = field(default_factory=lambda: LastWords(LOST))
    evidence: Evidence | None = None
    start: Start = Start.COLD


class ScriptedSandbox:
    """A runner with one journal that any number of connections may read."""

    def __init__(self, name: str, script: Script) -> None:
        self.name = name
        self.pod_uid: str | None = None
        self.script = script
        self.start = script.start
        self.timings = SandboxTimings(create=1.0, schedule=2.0, start=3.0)
        self.calls: list[dict[str, Any]] = []
        self.posts = self.connections = self.cancels = self.releases = 0
        self.journal = bytearray()
        self.complete = self.dead = self.sound = self.leaky = self.not_ours = False
        self.follows = ""
        self._news = asyncio.Event()
        self._cancelled = asyncio.Event()
        self._child: asyncio.Task[None] | None = None

    @property
    def details(self) -> SandboxDetails:
        """What is known of it."""
        node = "n1" if self.calls else None
        return SandboxDetails(name=self.name, backend="scripted", node=node, pod_uid=self.pod_uid)

    async def ready(self) -> None:
        """Be ready when the script says."""
        if self.script.ready is not None:
            await self.script.ready.wait()
        if self.script.ready_error is not None:
            raise self.script.ready_error

    async def dispatch(self, call: bytes) -> AsyncIterator[bytes]:
        """Take the call, if the script lets it arrive."""
        self.posts += 1
        fate = self.script.posts.pop(0) if self.script.posts else Fate.ARRIVES
        if self.dead or fate is Fate.LOST:
            raise ConnectionLostError(fate.value)
        if fate is Fate.TAKEN:
            self.not_ours = True
            raise NotTakenError(fate.value)
        if self.calls or fate is Fate.ACCEPTED_BEFORE:
            raise ClaimedError("409")
        self.accept(json.loads(call))
        if fate is Fate.ANSWER_LOST:
            raise ConnectionLostError(fate.value)
        async for data in self._read(0):
            yield data

    async def resume(self, offset: int) -> AsyncIterator[bytes]:
        """Read the journal again."""
        if self.dead or not self.calls:
            raise ConnectionLostError("404")
        async for data in self._read(offset):
            yield data

    async def cancel(self) -> None:
        """End the child, unless the script is deaf."""
        self.cancels += 1
        if self.dead or not self.calls or self.cancels <= self.script.cancels_lost:
            raise ConnectionLostError("nobody there")
        if not self.script.deaf_to_cancel:
            self._cancelled.set()

    async def alive(self) -> bool:
        """Whether it is there."""
        return not self.dead

    async def last_words(self) -> LastWords:
        """What the script leaves; of another's call: then it is somebody else's."""
        self.not_ours = self.not_ours or bool(self.script.last_words.holder)
        return self.script.last_words

    async def evidence(self) -> Evidence | None:
        """What the script blames."""
        return self.script.evidence

    async def release(self, *, sound: bool = False, leaky: bool = False) -> None:
        """Be gone; one that did not take the call is somebody else's."""
        self.sound, self.leaky = self.sound or sound, self.leaky or leaky  # housekeeping may find it, too
        if self.not_ours:
            return
        self.releases += 1
        self.dead = True
        if self._child is not None:
            self._child.cancel()

    def accept(self, call: dict[str, Any]) -> None:
        """Have the call, and run it."""
        self.calls.append(call)
        self._child = asyncio.create_task(self._run())

    def vanish(self) -> None:
        """Be gone from now on: open connections break, nothing answers."""
        self.dead = True
        self._tell()

    async def _run(self) -> None:
        """The child: writes its frames, then the report; a cancel ends it at a gate."""
        self._write(encode_frame(FrameKind.STARTED, encode_json({"setup_ms": 0.1})))
        ending = self.script.report
        for frame in self.script.frames:
            if isinstance(frame, bytes):
                self._write(frame)
            elif await self._stopped_at(frame):
                ending = {"cause": Cause.CANCELLED, "exit_code": None, "signal": 15}
                break
        text = encode_json(report(**{"execution_id": self.calls[0]["execution_id"], **ending}))
        self._write(encode_frame(FrameKind.REPORT, text))
        self.complete = True
        self._tell()

    async def _stopped_at(self, gate: asyncio.Event) -> bool:
        waits = [asyncio.ensure_future(event.wait()) for event in (gate, self._cancelled)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return not gate.is_set()

    def _write(self, data: bytes) -> None:
        self.journal += data
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news.clear()

    async def _read(self, offset: int) -> AsyncIterator[bytes]:
        self.connections += 1
        cut = self.script.cuts.pop(0) if self.script.cuts else None
        ends = [end for end in (cut, self.script.dies_at) if end is not None]
        while True:
            end = min([len(self.journal), offset + self.script.chunk, *ends])
            if offset < end:
                yield bytes(self.journal[offset:end])
                offset = end
            elif ends and offset >= min(ends):
                self._break(offset)
                return
            elif self.dead:
                raise ConnectionLostError("gone")
            elif self.complete:
                return
            else:
                await self._news.wait()

    def _break(self, offset: int) -> None:
        self.dead = self.dead or (self.script.dies_at is not None and offset >= self.script.dies_at)
        if not self.script.cut_quietly:
            raise ConnectionLostError(f"cut at {offset}")


class ScriptedBackend:
    """Makes sandboxes by ``script``, a function of the execution's id. They outlive a service, as on a cluster."""

    name = "scripted"

    def __init__(self, script: Callable[[str], Script]) -> None:
        self.script = script
        self.sandboxes: dict[str, ScriptedSandbox] = {}
        self.made: dict[str, ScriptedSandbox] = {}  # those deleted since included
        self.waiting: list[Script] = []
        self.claimed: list[str] = []  # execution ids
        self.claimed_since: list[float] = []  # of these
        self.problems: tuple[str, ...] = ()
        self.obstacles: dict[str, str] = {}  # by sandbox
        self.create_errors: list[Exception] = []
        self.find_errors: list[Exception] = []
        self.started = self.stopped = 0
        self.deleted: asyncio.Queue[str] = asyncio.Queue()

    async def start(self) -> None:
        """Note it."""
        self.started += 1

    async def stop(self) -> None:
        """Note it; sandboxes stay."""
        self.stopped += 1

    def use_templates(self, templates: Mapping[str, Template]) -> None:
        """Nothing is prepared."""

    def health(self) -> Health:
        """Ready unless there are problems."""
        return Health(not self.problems, self.problems, ("scripted",))

    async def claim(self, claim: Claim) -> ScriptedSandbox | Miss:
        """The next one that waits."""
        if not self.waiting:
            return Miss("nothing waits")
        name = f"p-{len(self.claimed)}"
        self.claimed.append(claim.execution_id)
        self.claimed_since.append(claim.since)
        self.sandboxes[name] = self.made[name] = ScriptedSandbox(name, self.waiting.pop(0))
        return self.sandboxes[name]

    def pools(self) -> tuple[PoolStatus, ...]:
        """The one of what waits; none if nothing does."""
        return (pool(ready=len(self.waiting)),) if self.waiting else ()

    def use_share(self, share: Share) -> None:
        """There is nothing to share."""

    def obstacle(self, name: str, execution_id: str) -> str:
        """What the test says."""
        del execution_id
        return self.obstacles.get(name, "")

    async def create(self, name: str, claim: Claim) -> ScriptedSandbox:
        """Make it, or return the one of this name."""
        if self.create_errors:
            raise self.create_errors.pop(0)
        if name not in self.sandboxes:
            self.sandboxes[name] = self.made[name] = ScriptedSandbox(name, self.script(claim.execution_id))
        return self.sandboxes[name]

    async def find(self, name: str, execution_id: str) -> ScriptedSandbox | None:
        """The one of this name, if it still exists."""
        del execution_id
        if self.find_errors:
            raise self.find_errors.pop(0)
        return self.sandboxes.get(name)

    async def collect_garbage(self, is_wanted: Callable[[str], Awaitable[bool]]) -> int:
        """Delete what nobody wants."""
        doomed = [name for name in list(self.sandboxes) if not await is_wanted(self._execution_of(name))]
        for name in doomed:
            await self.sandboxes.pop(name).release()
            self.deleted.put_nowait(name)
        return len(doomed)

    def _execution_of(self, name: str) -> str:
        return self.claimed[int(name[2:])] if name.startswith("p-") else name.removeprefix("x-").upper()


def log_copy(*frames: tuple[FrameKind, bytes]) -> LogCopy:
    """A pod's log as the backend parsed it."""
    copy = LogCopy()
    copy.frames, copy.started = list(frames), True
    return copy
