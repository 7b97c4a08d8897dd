"""An execution's events as server-sent events."""

from __future__ import annotations

import asyncio
import base64
import codecs
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import orjson

from executor_api.domain.execution import Event, EventKind
from executor_api.http.problems import printable
from executor_api.http.render import answer, instant
from executor_api.service.execution_service import ExecutionService
from executor_runner.protocol.frames import Stream, decode_artifact

HEARTBEAT_SECONDS = 15.0
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_STREAM_NAMES = {Stream.STDOUT: EventKind.STDOUT, Stream.STDERR: EventKind.STDERR}


class TextCutter:
    """Turns the chunks of one stream into text without ever cutting a character; what is no UTF-8 stays bytes."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, chunk: bytes, *, last: bool = False) -> dict[str, str] | None:
        """The next piece as an event's data; None if there is nothing whole yet."""
        held = self._decoder.getstate()[0]
        try:
            text = self._decoder.decode(chunk, last)
        except UnicodeDecodeError:
            self._decoder.reset()
            return {"base64": base64.b64encode(held + chunk).decode()}
        return {"text": text} if text else None


class EventWriter:
    """Writes the events of one execution. It must see them from the first one on: characters span chunks."""

    def __init__(self, execution_id: str, service: ExecutionService) -> None:
        self._id = execution_id
        self._service = service
        self._cutters = {EventKind.STDOUT: TextCutter(), EventKind.STDERR: TextCutter()}

    async def write(self, event: Event) -> bytes:
        """The event on the wire, empty if there is nothing to say yet."""
        if event.kind in self._cutters:
            return self._output(event.kind, event.data, event.number)
        if event.kind is EventKind.GAP:
            gap = orjson.loads(event.data)
            stream = _STREAM_NAMES[Stream(gap["stream"])]
            data = {"stream": stream, "dropped_bytes": gap["dropped_bytes"]}
            return self._output(stream, b"", last=True) + _wire(event.kind, orjson.dumps(data), event.number)
        if event.kind is EventKind.FINISHED:
            rest = b"".join(self._output(stream, b"", last=True) for stream in self._cutters)
            return rest + _wire(event.kind, await self._finished(), event.number)
        data = _artifact(event.data) if event.kind is EventKind.ARTIFACT else _status(event.data)
        return _wire(event.kind, orjson.dumps(data), event.number)

    def _output(self, stream: EventKind, chunk: bytes, number: int | None = None, *, last: bool = False) -> bytes:
        data = self._cutters[stream].feed(chunk, last=last)
        return _wire(stream, orjson.dumps(data), number) if data else b""

    async def _finished(self) -> bytes:
        execution = await self._service.wait(self._id, 0)
        return answer(execution, await self._service.output(self._id))


async def stream(
    service: ExecutionService, tenant: str, execution_id: str, after: int = 0, *, heartbeat: float = HEARTBEAT_SECONDS
) -> AsyncIterator[bytes]:
    """Yield what goes over the wire: every event numbered above ``after``, heartbeats in pauses, the end last."""
    writer = EventWriter(execution_id, service)
    async with aclosing(_with_pauses(service.events(tenant, execution_id), heartbeat)) as events:
        async for event in events:
            if event is None:
                yield b": heartbeat\n\n"
                continue
            if event.kind is EventKind.FINISHED and event.number > after:
                yield b""  # sent once what came before is read: who reads nothing must not have a whole answer held
            written = await writer.write(event)
            if written and event.number > after:
                yield written
                del written  # or it would be held twice until the client has read it
                yield b""


async def _with_pauses(events: AsyncIterator[Event], seconds: float) -> AsyncGenerator[Event | None, None]:
    """The events, and None whenever none came for so many seconds."""
    coming = asyncio.ensure_future(_next(events))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=seconds)
            if not done:
                yield None
                continue
            event = coming.result()
            if event is None:
                return
            coming = asyncio.ensure_future(_next(events))
            yield event
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


def _wire(kind: EventKind, data: bytes, number: int | None) -> bytes:
    identity = b"" if number is None else b"id: %d\n" % number
    return b"%sevent: %s\ndata: %s\n\n" % (identity, kind.encode(), data)


def _artifact(data: bytes) -> dict[str, object]:
    path, content = decode_artifact(data)
    return {"path": printable(path), "size": len(content)}


def _status(data: bytes) -> dict[str, object]:
    status: dict[str, object] = orjson.loads(data)
    at = status.get("at")
    return status | {"at": instant(at)} if isinstance(at, int | float) else status
