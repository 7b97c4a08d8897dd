"""One connection to a pod's runner, bounded in every direction: it brings a request, and takes an answer or a journal.

It may be kept for the claim that follows the journal.
"""

from __future__ import annotations

import contextlib
import socket
from enum import Enum, auto
from typing import Protocol

from executor_runner.journal import Journal
from executor_runner.loop import Loop
from executor_runner.request import Request

MAX_HEAD = 32 * 1024
MAX_BODY = 96 * 1024 * 1024
PATIENCE_SECONDS = 20.0
"""How long the peer may take to bring a request, and to close when it has its answer."""
_READ = 64 * 1024
"""Bytes of one read: what malloc serves without asking the kernel for memory each time."""
_WRITE = 256 * 1024


class Server(Protocol):
    """Whose connection it is."""

    delivered: bool  # whether a reader has had the journal of the latest call to its end

    def knows(self, request: Request) -> bool:
        """Whether the request has our token."""
        ...

    def handle(self, connection: Connection, request: Request, body: bytes) -> None:
        """Answer a complete request that has our token, or stream a journal."""
        ...

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        ...


class _Phase(Enum):
    """What the connection is at. A kept one begins again."""

    READING = auto()  # a request comes, or is awaited
    STREAMING = auto()  # the journal may go on
    ENDING = auto()  # nothing is to be added to what waits to be sent
    ENDED = auto()  # all is sent, and the peer is to close
    CLOSED = auto()


class Connection:
    """Callbacks of the loop read, parse and send."""

    def __init__(self, loop: Loop, server: Server, sock: socket.socket) -> None:
        self._loop = loop
        self._server = server
        self._sock = sock
        self._phase = _Phase.READING
        self._input = bytearray()
        self._output = bytearray()
        self._request: Request | None = None
        self._journal: Journal | None = None
        self._offset = 0
        self._keep = False
        self.journal_sent = False
        """To its end; the peer's next sign will say that it has it."""
        self.trusted = False
        """Whether its request has our token. Before that we keep no more of it than a head."""
        self._timer = loop.call_later(PATIENCE_SECONDS, self.close)
        loop.watch(sock.fileno(), read=self._on_readable)

    def answer(self, status: int, body: bytes) -> None:
        """Send a whole answer and close."""
        length = "" if status == 204 else f"Content-Length: {len(body)}\r\n"  # noqa: PLR2004 - No Content
        head = f"HTTP/1.1 {status} -\r\n{length}Connection: close\r\n\r\n"
        self._output += head.encode() + body
        self._phase = _Phase.ENDING
        self._flush()

    def stream(self, journal: Journal, offset: int, *, keep: bool = False) -> None:
        """Let `pump` send the journal from an offset on to its report; then close, or ``keep`` the connection open."""
        self._journal, self._offset, self._keep = journal, offset, keep
        connection = b"keep-alive" if keep else b"close"
        self._output += (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: " + connection + b"\r\n\r\n"
        )
        self._phase = _Phase.STREAMING

    def pump(self) -> None:
        """Send what the journal has for this reader, as fast as it takes it."""
        journal = self._journal
        while journal is not None and self._phase is _Phase.STREAMING and len(self._output) < _WRITE:
            data = journal.read(self._offset, _WRITE)
            self._offset += len(data)
            if data:
                self._output += f"{len(data):x}\r\n".encode() + data + b"\r\n"
            if journal.complete and self._offset == len(journal):
                self._output += b"0\r\n\r\n"
                self._phase = _Phase.ENDING
            self._flush()
            if not data:
                return

    def close(self) -> None:
        """Close the connection. Safe to call twice."""
        self._phase = _Phase.CLOSED
        if self._sock.fileno() < 0:
            return
        self._timer.cancel()
        self._loop.watch(self._sock.fileno())
        self._sock.close()
        self._server.forget(self)

    def _on_readable(self) -> None:
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if self.journal_sent:  # who closes or goes on has read it
            self._server.delivered, self.journal_sent = True, False
        if not data:
            self.close()
        elif self._phase is _Phase.READING:
            if not self._input and self.trusted and self._request is None:
                self._limit_patience()
            self._input += data
            self._parse()

    def _parse(self) -> None:
        try:
            request = self._request or self._parse_head()
        except ValueError:
            self.answer(400, b"not an HTTP/1.1 request\n")
            return
        if request is not None and self.trusted and len(self._input) >= request.content_length:
            self._timer.cancel()
            body = bytes(self._input[: request.content_length])
            self._input.clear()
            self._server.handle(self, request, body)

    def _parse_head(self) -> Request | None:
        """The request once its head is complete and may have its body. Raises ``ValueError``."""
        head, separator, rest = bytes(self._input).partition(b"\r\n\r\n")
        if len(head) > MAX_HEAD:
            self.answer(431, b"head too large\n")
        elif separator:
            request = Request.parse(head)
            if not self._server.knows(request):
                self.answer(401, b"this sandbox has another token\n")
            elif request.content_length > MAX_BODY or "transfer-encoding" in request.headers:
                self.answer(413, b"a body needs a Content-Length within the limit\n")
            else:
                self._request, self._input, self.trusted = request, bytearray(rest), True
                self._continue(request)
        return self._request

    def _continue(self, request: Request) -> None:
        if request.headers.get("expect", "").lower() == "100-continue":
            self._output += b"HTTP/1.1 100 Continue\r\n\r\n"
            self._flush()

    def _flush(self) -> None:
        try:
            while self._output:
                del self._output[: self._sock.send(self._output)]
        except BlockingIOError:
            self._loop.watch(self._sock.fileno(), read=self._on_readable, write=self._on_writable)
            return
        except OSError:
            self.close()
            return
        self._loop.watch(self._sock.fileno(), read=self._on_readable)
        if self._phase is _Phase.ENDING:
            self._end()

    def _end(self) -> None:
        """Close our half only: the peer closes its own when it has all; closed at once, unread input would cut it."""
        self.journal_sent = self._journal is not None
        if self._keep:
            self._request, self._journal, self._keep = None, None, False
            self._phase = _Phase.READING
            return
        self._phase = _Phase.ENDED
        with contextlib.suppress(OSError):  # it is gone already
            self._sock.shutdown(socket.SHUT_WR)
        self._limit_patience()

    def _limit_patience(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(PATIENCE_SECONDS, self.close)

    def _on_writable(self) -> None:
        self._flush()
        self.pump()
