"""A stand-in for the runner in a pod: the protocol's HTTP face over a scripted journal, on an address of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from aiohttp import web
from support.reports import report

from executor_api.backends.kubernetes.probe_code import look
from executor_api.backends.kubernetes.rehearsal import EXECUTION as REHEARSAL
from executor_runner.protocol import CALL_PATH, DONE_PATH, POD_HEADER, PORT, RETIRE_PATH, TOKEN_HEADER, holder_text
from executor_runner.protocol.frames import FrameKind, encode_frame, encode_json
from executor_runner.protocol.tokens import token_hash


class FakeRunner:
    """Answers as a runner does; a test appends to its journal and cuts its connections."""

    def __init__(self, ip: str, expected_hash: str, pod: str) -> None:
        self.ip = ip
        self.pod = pod
        self.calls: list[bytes] = []
        self.callers: list[object] = []
        """The addresses that calls came from: one for each connection."""
        self.walled = True
        """Whether the code that tries the network finds every door shut."""
        self.entered = False
        """Whether it can be connected to meanwhile, at more than its runner's port."""
        self.tried, self.tells = False, True
        """Whether it was to try the network; whether it says how that went."""
        self.answer = ""
        """What it says of the network whatever it found."""
        self.elsewhere = False
        """Whether its pod claims another address than this."""
        self.token = ""
        self.execution_id = "e-x-1"
        """Whose call it is to be: what `world.ready` makes."""
        self.mute = False
        """Whether it leaves a call that comes without an answer, and without a place for it."""
        self.heard = asyncio.Event()
        self.cancelled = self.retired = False
        self.done = asyncio.Event()
        self.claimed = asyncio.Event()
        self.journal = bytearray()
        self.complete = False
        self._expected_hash = expected_hash
        self._grown = asyncio.Condition()
        self._readers: set[asyncio.Transport] = set()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen."""
        app = web.Application(client_max_size=2**26)
        app.router.add_post(CALL_PATH, self._claim)
        app.router.add_get(CALL_PATH, self._resume)
        app.router.add_delete(CALL_PATH, self._cancel)
        app.router.add_post(DONE_PATH, self._done)
        app.router.add_post(RETIRE_PATH, self._retire)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.ip, PORT, reuse_address=True).start()

    async def stop(self) -> None:
        """Close listener and connections."""
        if self._runner is not None:
            self.cut()
            await self._runner.cleanup()
            self._runner = None

    async def write(self, kind: FrameKind, payload: bytes = b"") -> None:
        """Append a frame."""
        async with self._grown:
            self.journal += encode_frame(kind, payload)
            self.complete = kind is FrameKind.REPORT
            self._grown.notify_all()

    async def finish(self, **fields: Any) -> None:
        """Append the report."""
        await self.write(FrameKind.REPORT, encode_json(report(**fields)))

    def cut(self) -> None:
        """Cut the connections of all readers."""
        for transport in self._readers:
            transport.abort()

    def _is_refused(self, request: web.Request) -> bool:
        return token_hash(request.headers.get(TOKEN_HEADER, "")) != self._expected_hash

    async def _claim(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.heard.set()
        if self.mute:
            await asyncio.Event().wait()
        if self._is_refused(request):
            return web.Response(status=401, text="this sandbox has another token\n")
        if request.headers.get(POD_HEADER) != self.pod:
            return web.Response(status=421, text="this is another pod than the one the call is for\n")
        if self.calls:
            return web.Response(status=409, text=holder_text(self.execution_id))
        if REHEARSAL.encode() in body:
            return await self._try_network(request, json.loads(body)["python"]["args"])
        self.calls.append(body)
        self.callers.append(request.transport and request.transport.get_extra_info("peername"))
        self.token = request.headers[TOKEN_HEADER]
        self.claimed.set()
        return await self._stream(request, 0)

    async def _try_network(self, request: web.Request, args: list[Any]) -> web.StreamResponse:
        """Run what it is to run, though with less patience."""
        self.tried = True
        doors, entrances, port, _, _ = args
        found = await asyncio.to_thread(look, doors, entrances if self.entered else [], port, 0.5, 0.5)
        if not self.entered:
            found["listened"] = [60.0 for _ in entrances]
        if self.elsewhere:
            found["callers"] = []  # they are connected to whoever has the address that its pod claims to have
        if self.walled:
            found["doors"] = [{"outcome": "ETIMEDOUT", "open_seconds": 0.0} for _ in doors]
        await self.write(FrameKind.STARTED, b"{}")
        if not self.tells:
            return await self._stream(request, 0)
        await self.finish(execution_id=REHEARSAL, value_json=self.answer or json.dumps(found))
        return await self._stream(request, 0)

    async def _resume(self, request: web.Request) -> web.StreamResponse:
        if self._is_refused(request):
            return web.Response(status=401, text="this sandbox has another token\n")
        if not self.calls:
            return web.Response(status=404, text="no call yet\n")
        if request.query["execution"] != self.execution_id:
            return web.Response(status=409, text=holder_text(self.execution_id))
        return await self._stream(request, int(request.query["offset"]))

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        if self._is_refused(request):
            return web.Response(status=401)
        self.cancelled = True
        return web.Response(status=202)

    async def _done(self, request: web.Request) -> web.StreamResponse:
        if self._is_refused(request):
            return web.Response(status=401)
        if self.calls and request.query["execution"] != self.execution_id:
            return web.Response(status=409, text=holder_text(self.execution_id))
        self.done.set()
        return web.Response(status=204)

    async def _retire(self, request: web.Request) -> web.StreamResponse:
        if self._is_refused(request):
            return web.Response(status=401)
        if self.calls:
            return web.Response(status=409, text=holder_text(self.execution_id))
        self.retired = True
        return web.Response(status=204)

    async def _stream(self, request: web.Request, offset: int) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        assert request.transport is not None
        self._readers.add(request.transport)
        with contextlib.suppress(ConnectionError):
            while not self.complete or offset < len(self.journal):
                async with self._grown:
                    while not self.complete and offset == len(self.journal):
                        await self._grown.wait()
                await response.write(bytes(self.journal[offset:]))
                offset = len(self.journal)
            await response.write_eof()
        return response
