"""HTTP on the wire: uvicorn's protocol, with heads bounded in size and time, and refusals that are problems."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from executor_api.http import problems
from executor_api.http.crowd import Crowd, Unsent

MOST_HEAD_BYTES = 128 * 1024
MOST_PIPELINED = 128
"""Requests that wait for their turn on one connection. A piece of what comes may hold ten thousand of them."""
MOST_UNSENT_BYTES = 256 * 1024 * 1024
"""Of answers to clients that do not read them, all together."""
_CRUMB_BYTES = 1024
_FEW_CRUMBS = 16
"""Pieces so small come in the body of anybody's request; of more, several are read at a time."""
_REST_SECONDS = 0.5

_log = structlog.get_logger(__name__)


class _TooManyError(Exception):
    """More requests at once than may wait."""


class Protocol(HttpToolsProtocol):
    """One connection. uvicorn itself collects a head for as long as its bytes come, and takes who comes."""

    head_seconds: ClassVar[float]
    crowd: ClassVar[Crowd[Protocol]]
    unsent: ClassVar[Unsent[Protocol]]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = True
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._crumbs = 0
        self._rest: asyncio.TimerHandle | None = None
        self._held = False
        self._running: RequestResponseCycle | None = None  # of several requests on their way, the first

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Expect a head."""
        super().connection_made(transport)
        self._watch_head()
        goes = self.crowd.enter(self)
        if goes is not None:
            goes.transport.abort()  # at once: the one that came needs its descriptor

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_timer()
        if self._rest is not None:
            self._rest.cancel()
        self.crowd.leave(self)
        self.unsent.flows(self)
        if self._running is not None:  # uvicorn tells the last one only, and this one would go on writing
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; a head that is still not complete after too many bytes never will be."""
        if self._in_head and self._head_timer is None:
            self._watch_head()
        self._head_bytes += len(data)
        in_body = not self._in_head
        super().data_received(data)
        if in_body and not self._in_head and len(data) < _CRUMB_BYTES:
            self._take_crumb()
        if self._in_head and self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(problems.HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """The body is bounded elsewhere."""
        self._in_head = False
        self._stop_timer()
        if len(self.pipeline) >= MOST_PIPELINED:
            raise _TooManyError  # ends the parsing of what has come
        super().on_headers_complete()
        if not self.pipeline:
            self._running = self.cycle

    def on_message_complete(self) -> None:
        """The next head may follow."""
        self._in_head, self._head_bytes, self._crumbs = True, 0, 0
        if not self.cycle.response_complete and not self.flow.write_paused:
            self.crowd.listens(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Who keeps the connection for later can be told to go; the next request's turn is when this answer is read."""
        self._held = bool(self.pipeline) and self.flow.write_paused
        if self._held:
            return
        if self.pipeline:
            self._running = self.pipeline[-1][0]
        else:
            self.crowd.may_speak(self)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Who does not read what it is sent can be told to go, whatever else it has asked for."""
        super().pause_writing()
        self.crowd.is_deaf(self)
        for goes in self.unsent.waits(self, self.transport.get_write_buffer_size()):
            goes.transport.abort()

    def resume_writing(self) -> None:
        """It reads."""
        super().resume_writing()
        self.unsent.flows(self)
        self.crowd.listens(self)
        if self._is_idle():
            self.crowd.may_speak(self)
        if self._held:
            self.on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words for all of them
        """Answer what is no HTTP; but an answer out of turn would be taken for another request's."""
        if self.pipeline:
            self.transport.abort()
        else:
            self._refuse(problems.MALFORMED)

    def _refuse(self, kind: problems.Kind) -> None:
        _log.info("connection refused", problem=kind.slug, client=self.client and self.client[0])
        body = problems.body(problems.ProblemError(kind, kind.hint), "")
        lines = (
            f"content-type: {problems.MEDIA_TYPE}",
            f"content-length: {len(body)}",
            "connection: close",
            "",
            "",
        )
        self.transport.write(STATUS_LINE[kind.status] + "\r\n".join(lines).encode() + body)
        self.transport.close()

    def _watch_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._give_up)

    def _give_up(self) -> None:
        self._head_timer = None
        if self._is_idle():
            self.transport.close()

    def _take_crumb(self) -> None:
        """A body that comes byte by byte is read a few times a second: else its client would cost more than others."""
        self._crumbs += 1
        if self._crumbs > _FEW_CRUMBS and not self.transport.is_closing():
            self.transport.pause_reading()
            self._rest = self.loop.call_later(_REST_SECONDS, self._read_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing() and not self.flow.read_paused:
            self.transport.resume_reading()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]  # none at first

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def protocol(head_seconds: float, most: int) -> type[Protocol]:
    """The protocol for uvicorn, which makes its instances itself.

    ``head_seconds`` is what a whole head may take; there are ``most`` connections at once.
    """
    bounds = {"head_seconds": head_seconds, "crowd": Crowd(most), "unsent": Unsent(MOST_UNSENT_BYTES)}
    return type("BoundedProtocol", (Protocol,), bounds)
