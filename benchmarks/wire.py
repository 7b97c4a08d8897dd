"""An HTTP/1.1 client that takes little time of its own: kept connections, answers as bytes, stamped as they arrive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

IDLE_SECONDS = 2.0
"""A connection that idled longer is not used again: the server may be about to close it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``at``: ``time.perf_counter()`` when the last byte was here. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    at: float


class Client:
    """Any number of requests at once to one server; each has a connection to itself."""

    def __init__(self, url: str, api_key: str = "") -> None:
        parts = urlsplit(url)
        self._host, self._tls = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        bearer = f"Authorization: Bearer {api_key}\r\n" if api_key else ""
        self._head = f"Host: {parts.netloc}\r\n{bearer}"
        self._idle: list[_Connection] = []

    async def open(self, count: int) -> None:
        """Have so many connections ready, so that a burst does not measure how they are made."""
        opened = await asyncio.gather(*(self._connect() for _ in range(count)))
        self.close()
        self._idle += opened

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One exchange. Raises ``OSError`` if the connection breaks or the answer is no HTTP with a length."""
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        if body:
            more += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        connection = self._take() or await self._connect()
        try:
            answer = await connection.exchange(
                f"{method} {self._prefix}{path} HTTP/1.1\r\n{self._head}{more}\r\n".encode() + body
            )
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable(time.perf_counter()):
                return connection
            connection.close()
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, self._host, self._port, ssl=self._tls or None)
        return connection


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = bytearray()
        self._waiter: asyncio.Future[Answer] | None = None
        self._used = time.perf_counter()
        self._closed = False

    async def exchange(self, request: bytes) -> Answer:
        self._waiter = asyncio.get_running_loop().create_future()
        if self._closed:
            raise ConnectionError("closed before the request")
        self._transport.write(request)
        return await self._waiter

    def is_usable(self, now: float) -> bool:
        return not self._closed and now - self._used < IDLE_SECONDS

    def close(self) -> None:
        self._closed = True
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # what TCP gives; uvloop's derives from nothing

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            answer = _parse(self._received)
        except ValueError as error:
            self._fail(ConnectionError(str(error)))
            return
        if answer is not None and self._waiter is not None and not self._waiter.done():
            self._received.clear()
            self._used = answer.at
            self._closed = answer.headers.get("connection") == "close"
            self._waiter.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._fail(exc or ConnectionError("closed by the server"))

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)


def _parse(received: bytearray) -> Answer | None:
    """The answer, or None while bytes are missing. Raises ``ValueError`` if there is no telling where it ends."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = received[:end].decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "content-length" not in headers:
        raise ValueError("an answer without Content-Length")
    body = received[end + 4 :]
    if len(body) < int(headers["content-length"]):
        return None
    return Answer(int(first.split()[1]), headers, bytes(body), time.perf_counter())
