"""The runner's HTTP face in a pod: just what `protocol` names, and bounded in every direction."""

from __future__ import annotations

import contextlib
import hmac
import socket
from collections.abc import Callable

from executor_runner.journal import Journal
from executor_runner.loop import Loop, Timer
from executor_runner.protocol import CALL_PATH, DONE_PATH, RETIRE_PATH, holder_text
from executor_runner.protocol.tokens import token_hash
from executor_runner.request import Request
from executor_runner.runner import AlreadyClaimedError, Runner

MAX_CONNECTIONS = 64
MAX_HEAD = 32 * 1024
MAX_BODY = 96 * 1024 * 1024
HEAD_SECONDS = 20.0
"""How long a connection may take to bring its request."""
RETIRED_SECONDS = 0.5
"""How long a retired runner stays to answer: longer than its answer needs to arrive."""
_READ = 256 * 1024
_LONG = 20
"""Digits of no journal's offset; Python refuses to read thousands."""


class HttpServer:
    """Accepts connections for one runner. ``on_claim`` gets token and journal, ``on_done`` says nobody needs us.

    ``pod``: the UID of our pod, if it is known.
    """

    def __init__(self, loop: Loop, runner: Runner, listener: socket.socket, expected_hash: str, pod: str = "") -> None:
        self._loop = loop
        self._runner = runner
        self._listener = listener
        self._expected_hash = expected_hash
        self._pod = pod
        self._connections: dict[_Connection, None] = {}  # oldest first
        self.delivered = False
        """Whether a reader has had the journal of the latest call to its end."""
        self.on_claim: Callable[[str, Journal], None] = lambda _token, _journal: None
        self.on_done: Callable[[], None] = loop.stop
        listener.settimeout(0)
        loop.watch(listener.fileno(), read=self._accept)

    def knows(self, request: Request) -> bool:
        """Whether the request has our token."""
        return hmac.compare_digest(token_hash(request.token), self._expected_hash)

    def handle(self, connection: _Connection, request: Request, body: bytes) -> None:
        """Answer one complete request that has our token."""
        action = {
            ("POST", CALL_PATH): lambda: self._claim(connection, request, body),
            ("GET", CALL_PATH): lambda: self._resume(connection, request),
            ("DELETE", CALL_PATH): lambda: self._cancel(connection, request),
            ("POST", DONE_PATH): lambda: self._done(connection, request),
            ("POST", RETIRE_PATH): lambda: self._retire(connection),
        }.get((request.method, request.path))
        if action is None:
            connection.answer(404, b"no such resource\n")
        else:
            action()

    def forget(self, connection: _Connection) -> None:
        """The connection is closed."""
        self._connections.pop(connection, None)

    def feed_readers(self) -> None:
        """The journal has grown."""
        for connection in list(self._connections):
            connection.pump()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # gone before we looked
        if len(self._connections) >= MAX_CONNECTIONS and not self._make_room():
            sock.close()
            return
        sock.settimeout(0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[_Connection(self._loop, self, sock)] = None

    def _make_room(self) -> bool:
        """Drop the oldest connection that has not shown our token: the call itself may open as many as it likes."""
        stranger = next((connection for connection in self._connections if not connection.trusted), None)
        if stranger is not None:
            stranger.close()
        return stranger is not None

    def _claim(self, connection: _Connection, request: Request, body: bytes) -> None:
        def attach(journal: Journal) -> None:
            self.delivered = False
            self.on_claim(request.token, journal)
            journal.add_listener(lambda _kind, _payload: self.feed_readers())
            connection.stream(journal, 0, keep=self._runner.for_reuse and request.keep_alive)

        if self._pod and request.pod not in ("", self._pod):
            connection.answer(421, b"this is another pod than the one the call is for\n")
            return
        try:
            self._runner.claim(body, attach)
        except AlreadyClaimedError:
            self._name_holder(connection)
        except ValueError as error:
            connection.answer(400, f"not a call: {error}\n".encode())

    def _resume(self, connection: _Connection, request: Request) -> None:
        journal = self._named_journal(connection, request)
        offset = request.query.get("offset", "0")
        if journal is None:
            return
        if not (offset.isascii() and offset.isdigit() and len(offset) < _LONG) or int(offset) > len(journal):
            connection.answer(416, b"offset beyond the journal\n")
        else:
            connection.stream(journal, int(offset))

    def _cancel(self, connection: _Connection, request: Request) -> None:
        if self._named_journal(connection, request) is not None:
            connection.answer(202, b"")
            self._runner.cancel()

    def _done(self, connection: _Connection, request: Request) -> None:
        journal = self._named_journal(connection, request)
        if journal is not None and not journal.complete:
            connection.answer(409, b"no report yet\n")
        elif journal is not None:
            connection.answer(204, b"")
            self.on_done()

    def _retire(self, connection: _Connection) -> None:
        if self._runner.journal is not None:
            self._name_holder(connection)
            return
        connection.answer(204, b"")
        self._runner.refuse_calls()
        self._loop.call_later(RETIRED_SECONDS, self._loop.stop)

    def _named_journal(self, connection: _Connection, request: Request) -> Journal | None:
        """The journal of the execution that the request names; without it the request is answered."""
        journal = self._runner.journal
        if journal is None:
            connection.answer(404, b"no call yet\n")
        elif request.query.get("execution") != self._runner.execution_id:
            self._name_holder(connection)
            return None
        return journal

    def _name_holder(self, connection: _Connection) -> None:
        connection.answer(409, holder_text(self._runner.execution_id).encode())


class _Connection:
    """One connection, one request: reads it, then answers or streams the journal. It may be kept for the next claim."""

    def __init__(self, loop: Loop, server: HttpServer, sock: socket.socket) -> None:
        self._loop = loop
        self._server = server
        self._sock = sock
        self._input = bytearray()
        self._output = bytearray()
        self._request: Request | None = None
        self._journal: Journal | None = None
        self._offset = 0
        self._last = False
        self._said_all = False
        self._keep = False
        self._had_all = False
        self.trusted = False
        """Whether its request has our token. Before that we keep no more of it than a head."""
        self._timer: Timer = loop.call_later(HEAD_SECONDS, self.close)
        loop.watch(sock.fileno(), read=self._on_readable)

    def answer(self, status: int, body: bytes) -> None:
        """Send a whole answer and close."""
        length = "" if status == 204 else f"Content-Length: {len(body)}\r\n"  # noqa: PLR2004 - No Content
        head = f"HTTP/1.1 {status} -\r\n{length}Connection: close\r\n\r\n"
        self._output += head.encode() + body
        self._last = True
        self._flush()

    def stream(self, journal: Journal, offset: int, *, keep: bool = False) -> None:
        """Send the journal from an offset on until its report; then close, or ``keep`` the connection open."""
        self._journal, self._offset, self._keep = journal, offset, keep
        connection = b"keep-alive" if keep else b"close"
        self._output += (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: " + connection + b"\r\n\r\n"
        )
        self.pump()

    def pump(self) -> None:
        """Send what the journal has for this reader, as fast as it takes it."""
        journal = self._journal
        while journal is not None and self._journal is journal and not self._last and len(self._output) < _READ:
            data = journal.read(self._offset, _READ)
            self._offset += len(data)
            if data:
                self._output += f"{len(data):x}\r\n".encode() + data + b"\r\n"
            if journal.complete and self._offset == len(journal):
                self._output += b"0\r\n\r\n"
                self._last = True
            self._flush()
            if not data or self._sock.fileno() < 0:
                return

    def close(self) -> None:
        """Close the connection. Safe to call twice."""
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
        if self._had_all:  # who closes or goes on has read it
            self._server.delivered, self._had_all = True, False
        if not data:
            self.close()
            return
        if self._journal is None and not self._last:
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
                self._continue()
        return self._request

    def _continue(self) -> None:
        if self._request is not None and self._request.headers.get("expect", "").lower() == "100-continue":
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
        if self._last and not self._said_all:
            self._said_all = True
            self._say_all()

    def _say_all(self) -> None:
        """Close our half only: the peer closes its own when it has all; closed at once, unread input would cut it."""
        self._had_all = self._journal is not None
        if self._keep:
            self._request = self._journal = None
            self._last = self._said_all = self._keep = False
            return
        with contextlib.suppress(OSError):  # it is gone already
            self._sock.shutdown(socket.SHUT_WR)
        self._limit_patience()

    def _limit_patience(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(HEAD_SECONDS, self.close)

    def _on_writable(self) -> None:
        self._flush()
        self.pump()
