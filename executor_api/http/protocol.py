"""HTTP on the wire: uvicorn's protocol, with heads bounded in size and time, and refusals that are problems."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from executor_api.http import problems
from executor_api.http.crowd import Crowd

MOST_HEAD_BYTES = 128 * 1024
MOST_PIPELINED = 128
"""Requests that wait for their turn on one connection. A piece of what comes may hold ten thousand of them."""

_log = structlog.get_logger(__name__)


class _TooManyError(Exception):
    """More requests at once than may wait."""


class Protocol(HttpToolsProtocol):
    """One connection. uvicorn itself collects a head for as long as its bytes come, and takes who comes."""

    head_seconds: ClassVar[float]
    crowd: ClassVar[Crowd[Protocol]]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = True
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

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
        self.crowd.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; a head that is still not complete after too many bytes never will be."""
        if self._in_head and self._head_timer is None:
            self._watch_head()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(problems.HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """The body is bounded elsewhere."""
        self._in_head = False
        self._stop_timer()
        if len(self.pipeline) >= MOST_PIPELINED:
            raise _TooManyError  # ends the parsing of what has come
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next head may follow."""
        self._in_head, self._head_bytes = True, 0
        if not self.cycle.response_complete and not self.flow.write_paused:
            self.crowd.listens(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Who keeps the connection for later can be told to go."""
        if not self.pipeline:
            self.crowd.may_speak(self)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Who does not read what it is sent can be told to go, whatever else it has asked for."""
        super().pause_writing()
        self.crowd.may_speak(self)

    def resume_writing(self) -> None:
        """It reads."""
        super().resume_writing()
        if not self._is_idle():
            self.crowd.listens(self)

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
    return type("BoundedProtocol", (Protocol,), {"head_seconds": head_seconds, "crowd": Crowd(most)})
