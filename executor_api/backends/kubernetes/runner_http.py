"""HTTP/1.1 to the addresses of runners: one exchange after the other on a connection, which may be kept in between.

It does what our own runner needs and no more, for a general client takes more time over a request than a runner does
over a call. And it knows whether anything was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import httptools

CONNECT_SECONDS = 1.0
"""An address that takes longer is not reachable from here."""
KEPT_SECONDS = 2.0
"""How long a connection is kept. No longer: that a node is lost shows at once only where a new one is made."""
AHEAD_SECONDS = 0.5
"""The same for one that was made ahead of its request, which then may be the sandbox's only call."""
_MOST_UNREAD = 256 * 1024
"""With so many bytes that nobody has taken yet, no more are read."""


class NotConnectedError(ConnectionError):
    """No connection came about, so nothing was sent. ``refused``: nobody listens there."""

    def __init__(self, message: str, *, refused: bool) -> None:
        self.refused = refused
        super().__init__(message)


class Lines:
    """Connections to one port of any address. At most one is kept for each address."""

    def __init__(self, port: int, kept_seconds: float = KEPT_SECONDS) -> None:
        self._port = port
        self._kept_seconds = kept_seconds
        self._kept: dict[str, Line] = {}
        self._coming: dict[str, asyncio.Task[NotConnectedError | None]] = {}

    def approach(self, host: str) -> None:
        """Begin to connect, for a request that is about to come; without one the connection is closed again."""
        if host not in self._kept and host not in self._coming:
            task = self._coming[host] = asyncio.get_running_loop().create_task(self._approach(host))
            task.add_done_callback(lambda _: self._coming.pop(host, None))

    @asynccontextmanager
    async def exchange(
        self, host: str, request: bytes, silence_seconds: float, sending: Callable[[], None] = lambda: None
    ) -> AsyncIterator[Line]:
        """Send a request and yield the line of its answer, of which the head is there. ``sending``: it is written now.

        Raises `NotConnectedError`; after any other ``OSError`` nobody knows whether the request has arrived.
        """
        line = await self._arrived(host) or await self._connected(host)
        try:
            sending()
            await line.send(request, silence_seconds)
            yield line
        finally:
            self._keep(host, line, self._kept_seconds)

    def close(self) -> None:
        """Close those that are kept."""
        for coming in self._coming.values():
            coming.cancel()
        while self._kept:
            self._kept.popitem()[1].close()

    async def _approach(self, host: str) -> NotConnectedError | None:
        try:
            self._keep(host, await self._connected(host), min(AHEAD_SECONDS, self._kept_seconds))
        except NotConnectedError as error:
            return error  # for the request, if there will be one
        return None

    async def _arrived(self, host: str) -> Line | None:
        """The line that is kept, or on its way. Raises `NotConnectedError`."""
        coming = self._coming.get(host)
        error = await asyncio.shield(coming) if coming is not None else None
        if error is not None:
            raise error
        return self._take(host)

    def _keep(self, host: str, line: Line, seconds: float) -> None:
        if line.is_free and host not in self._kept:
            self._kept[host] = line
            line.rest(seconds)
        else:
            line.close()

    def _take(self, host: str) -> Line | None:
        line = self._kept.pop(host, None)
        return line if line is not None and line.is_free else None

    async def _connected(self, host: str) -> Line:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, line = await loop.create_connection(lambda: Line(lambda: self._forget(host)), host, self._port)
        except OSError as error:  # TimeoutError is one
            why = str(error) or f"no connection within {CONNECT_SECONDS:g} s"
            raise NotConnectedError(why, refused=isinstance(error, ConnectionRefusedError)) from error
        return line

    def _forget(self, host: str) -> None:
        """A line of it was closed, maybe another one than that which is kept."""
        line = self._kept.get(host)
        if line is not None and not line.is_free:
            del self._kept[host]


class Line(asyncio.Protocol):
    """One connection. Its methods raise ``OSError`` where it breaks, stays silent for too long, or speaks no HTTP."""

    _transport: asyncio.Transport
    _parser: httptools.HttpResponseParser

    def __init__(self, on_closed: Callable[[], None]) -> None:
        self.status = 0
        self._on_closed = on_closed
        self._body = bytearray()
        self._paused = False
        self._whole = True  # there is nothing of an answer to come
        self._stays = True  # the peer does not close it after the answer
        self._error: OSError | None = None
        self._silence_seconds = 0.0
        self._waiter: asyncio.Future[None] | None = None
        self._rest: asyncio.TimerHandle | None = None

    @property
    def is_free(self) -> bool:
        """Whether a request can be sent, as far as we have heard."""
        return self._whole and self._stays and not self._paused and not self._transport.is_closing()

    async def send(self, request: bytes, silence_seconds: float) -> None:
        """Write a request and wait for the head of the answer: its ``status``."""
        self._stop_rest()
        self._parser = httptools.HttpResponseParser(self)
        self.status, self._whole, self._stays, self._silence_seconds = 0, False, False, silence_seconds
        self._body.clear()
        self._transport.write(request)
        while not self.status:
            await self._more()

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, cut anywhere."""
        while self._body or not self._whole:
            if not self._body:
                await self._more()
                continue
            data = bytes(self._body)
            self._body.clear()
            if self._paused and self._error is None:
                self._paused = False
                self._transport.resume_reading()
            yield data

    def rest(self, seconds: float) -> None:
        """Close after so many seconds, unless the next request is sent before."""
        self._rest = asyncio.get_running_loop().call_later(seconds, self._transport.close)

    def close(self) -> None:
        """Close it. Safe to call twice."""
        self._stop_rest()
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)  # what TCP gives; uvloop's derives from nothing

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed, by whomever."""
        self._stop_rest()
        self._fail(str(exc or "closed before the answer was complete"))
        self._on_closed()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._whole:
            self._transport.close()  # nothing was asked
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._transport.close()
            self._fail(f"what answers speaks no HTTP: {error}")
        self._wake()

    def on_message_begin(self) -> None:
        """The parser sees an answer."""
        if self._whole:
            raise ConnectionError("an answer to no request")

    def on_headers_complete(self) -> None:
        """The parser has the head."""
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """The parser has some of the body."""
        self._body += body
        if len(self._body) > _MOST_UNREAD and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The parser has all of it."""
        self._whole, self._stays = True, self._parser.should_keep_alive()

    async def _more(self) -> None:
        """Wait until something has come. A peer that still takes what we send is not silent."""
        if self._error is not None:
            raise self._error
        unsent = self._transport.get_write_buffer_size()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._silence_seconds):
                await self._waiter
        except TimeoutError:
            if self._transport.get_write_buffer_size() >= unsent:
                raise TimeoutError(f"silent for {self._silence_seconds:g} s") from None

    def _fail(self, why: str) -> None:
        self._error = self._error or ConnectionResetError(why)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _stop_rest(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
