"""Reading a request's body without trusting its sender: bounded in size and in patience."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from math import ceil

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from executor_api.http.problems import (
    BODY_TIMEOUT,
    BODY_TOO_LARGE,
    INVALID_HEADER,
    SATURATED,
    ProblemError,
    invalid,
)

_SLOWEST = 4096
"""Bytes a second, or nobody would ever tell a slow client from one that only wants to hold a connection."""
_FREE = 64 * 1024
"""Bytes of a body that its connection holds before anybody reads them."""
_LINGER_BYTES = 16 * 1024 * 1024
_LINGER_SECONDS = 2.0
_ROOM_SECONDS = 5.0
"""How long a body waits for room. Whoever comes again at once must not cost more than whoever waits."""

Take = Callable[[int], Awaitable[None]]


class BodyRoom:
    """Memory for bodies that are on their way, of which one tenant has at most half.

    What each connection has anyway is not counted: so nobody's large bodies keep out anybody's small ones.
    """

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._news = asyncio.Event()

    @contextmanager
    def of(self, tenant: str, most: int) -> Iterator[Take]:
        """Yields what takes so many bytes for one body, until the block ends. ``most``: bytes of all bodies together.

        Without room it waits for some, and raises `ProblemError` if none comes: then the others go on.
        """
        come = held = 0

        def fits(count: int) -> bool:
            return self._held[tenant] + count <= most // 2 and self._held.total() + count <= most

        async def take(count: int) -> None:
            nonlocal come, held
            come += count
            wanted = max(0, come - _FREE) - held
            if not fits(wanted):
                await self._wait(lambda: fits(wanted))
            held += wanted
            self._held[tenant] += wanted

        try:
            yield take
        finally:
            self._held[tenant] -= held
            if not self._held[tenant]:
                del self._held[tenant]
            self._news.set()
            self._news.clear()

    async def _wait(self, fits: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(_ROOM_SECONDS):
                while not fits():
                    await self._news.wait()
        except TimeoutError:
            detail, again = "bodies on their way fill the memory for them", str(ceil(_ROOM_SECONDS))
            raise ProblemError(SATURATED, detail, headers={"Retry-After": again}, unread=True) from None


async def read_json_body(request: Request, max_bytes: int, pause_seconds: float, take: Take) -> bytes:
    """Return the whole body. ``take`` has to make room for each piece.

    Raises `ProblemError` for another content type, beyond ``max_bytes``, after a pause of ``pause_seconds`` and for a
    body that lags so far behind `_SLOWEST`, ``ClientDisconnect`` if the client goes away, and whatever ``take`` does.
    """
    _check_content_type(request.headers.get("content-type", ""))
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    chunks, loop = bytearray(), asyncio.get_running_loop()
    until = loop.time() + pause_seconds
    try:
        async with asyncio.timeout_at(until) as patience:
            async for chunk in request.stream():
                patience.reschedule(None)  # what it waits for now is ours
                came = loop.time()
                await take(len(chunk))
                chunks += chunk
                if len(chunks) > max_bytes:
                    raise _too_large(max_bytes)
                until += len(chunk) / _SLOWEST + loop.time() - came
                patience.reschedule(min(until, loop.time() + pause_seconds))
    except TimeoutError:
        raise ProblemError(
            BODY_TIMEOUT,
            f"the body paused for {pause_seconds:g} seconds, or came slower than {_SLOWEST} bytes a second",
            unread=True,
        ) from None
    return bytes(chunks)


def _check_content_type(value: str) -> None:
    media_type = value.partition(";")[0].strip().lower()
    if media_type != "application/json":
        problem = invalid(
            INVALID_HEADER,
            "Content-Type",
            f"is {value[:128]!r}; the body is read as JSON only" if value else "is missing; say what the body is",
            "application/json",
        )
        problem.unread = True
        raise problem


def _too_large(max_bytes: int) -> ProblemError:
    return ProblemError(BODY_TOO_LARGE, f"this service takes bodies of at most {max_bytes} bytes", unread=True)


class LingeringResponse(Response):
    """An answer sent while the body is still arriving.

    Closing at once would reset the connection, and the client would lose the answer. So a bounded part of the rest
    is read and dropped first.
    """

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, drop what still comes, close."""
        headers = [*self.raw_headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                await _drop(receive)
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b""})


async def _drop(receive: Receive) -> None:
    dropped = 0
    while dropped < _LINGER_BYTES:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            return
        dropped += len(message.get("body", b""))
