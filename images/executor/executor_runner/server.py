"""The runner's HTTP face in a pod: just what `protocol` names."""

from __future__ import annotations

import hmac
import socket
from collections.abc import Callable

from executor_runner.connection import Connection
from executor_runner.gathering import Gathering
from executor_runner.journal import Journal
from executor_runner.loop import Loop
from executor_runner.protocol import CALL_PATH, DONE_PATH, RETIRE_PATH, holder_text
from executor_runner.protocol.tokens import token_hash
from executor_runner.request import Request
from executor_runner.runner import AlreadyClaimedError, Runner

MAX_CONNECTIONS = 64
RETIRED_SECONDS = 0.5
"""How long a retired runner stays to answer: longer than its answer needs to arrive."""
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
        self._connections: dict[Connection, None] = {}  # oldest first
        self.delivered = False
        """Whether a reader has had the journal of the latest call to its end."""
        self.on_claim: Callable[[str, Journal], None] = lambda _token, _journal: None
        self.on_done: Callable[[], None] = loop.stop
        listener.settimeout(0)
        loop.watch(listener.fileno(), read=self._accept)

    @property
    def told(self) -> bool:
        """Whether a reader has just been sent the journal to its end."""
        return any(connection.journal_sent for connection in self._connections)

    def knows(self, request: Request) -> bool:
        """Whether the request has our token."""
        return hmac.compare_digest(token_hash(request.token), self._expected_hash)

    def handle(self, connection: Connection, request: Request, body: bytes) -> None:
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

    def forget(self, connection: Connection) -> None:
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
        self._connections[Connection(self._loop, self, sock)] = None

    def _make_room(self) -> bool:
        """Drop the oldest connection that has not shown our token: the call itself may open as many as it likes."""
        stranger = next((connection for connection in self._connections if not connection.trusted), None)
        if stranger is not None:
            stranger.close()
        return stranger is not None

    def _claim(self, connection: Connection, request: Request, body: bytes) -> None:
        def attach(journal: Journal) -> None:
            self.delivered = False
            gathering = Gathering(self._loop, self.feed_readers)
            journal.add_listener(gathering)  # whoever waits goes first
            self.on_claim(request.token, journal)
            connection.stream(journal, 0, keep=self._runner.for_reuse and request.keep_alive)
            gathering.send_soon()  # that the call is taken, should nothing come of it for a while

        if self._pod and request.pod not in ("", self._pod):
            connection.answer(421, b"this is another pod than the one the call is for\n")
            return
        try:
            self._runner.claim(body, attach)
        except AlreadyClaimedError:
            self._name_holder(connection)
        except ValueError as error:
            connection.answer(400, f"not a call: {error}\n".encode())

    def _resume(self, connection: Connection, request: Request) -> None:
        journal = self._named_journal(connection, request)
        offset = request.query.get("offset", "0")
        if journal is None:
            return
        if not (offset.isascii() and offset.isdigit() and len(offset) < _LONG) or int(offset) > len(journal):
            connection.answer(416, b"offset beyond the journal\n")
        else:
            connection.stream(journal, int(offset))
            connection.pump()

    def _cancel(self, connection: Connection, request: Request) -> None:
        if self._named_journal(connection, request) is not None:
            connection.answer(202, b"")
            self._runner.cancel()

    def _done(self, connection: Connection, request: Request) -> None:
        journal = self._named_journal(connection, request)
        if journal is not None and not journal.complete:
            connection.answer(409, b"no report yet\n")
        elif journal is not None:
            connection.answer(204, b"")
            self.on_done()

    def _retire(self, connection: Connection) -> None:
        if self._runner.journal is not None:
            self._name_holder(connection)
            return
        connection.answer(204, b"")
        self._runner.refuse_calls()
        self._loop.call_later(RETIRED_SECONDS, self._loop.stop)

    def _named_journal(self, connection: Connection, request: Request) -> Journal | None:
        """The journal of the execution that the request names; without it the request is answered."""
        journal = self._runner.journal
        if journal is None:
            connection.answer(404, b"no call yet\n")
        elif request.query.get("execution") != self._runner.execution_id:
            self._name_holder(connection)
            return None
        return journal

    def _name_holder(self, connection: Connection) -> None:
        connection.answer(409, holder_text(self._runner.execution_id).encode())
