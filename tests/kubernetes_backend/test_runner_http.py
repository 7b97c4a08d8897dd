"""HTTP to runners: what is kept for the next request, what is not, and what a broken exchange says of the request."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from support.pod import TOKEN, python, reused
from support.pod import pod as runner_pod

from executor_api.backends.kubernetes.dialer import RunnerRequest
from executor_api.backends.kubernetes.runner_http import Lines, NotConnectedError
from executor_runner.protocol import CALL_PATH
from executor_runner.protocol.frames import FrameDecoder, FrameKind
from kubernetes_backend.world import read, until

HOST = "127.0.0.1"
REQUEST = b"POST /v1/call HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
SECONDS = 60.0

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, status: int = 200, connection: str = "keep-alive") -> bytes:
    head = f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\nConnection: {connection}\r\n\r\n"
    return head.encode() + body


class Peer:
    """A server that answers requests as the test says. It counts connections, and those that were closed."""

    def __init__(self, handle: Answer) -> None:
        self.opened = self.closed = self.requests = 0
        self._handle = handle

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the connection ends."""
        self.opened += 1
        try:
            while await reader.readuntil(b"{}"):
                self.requests += 1
                await self._handle(reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed += 1
            writer.close()


@asynccontextmanager
async def peer(handle: Answer, kept_seconds: float = SECONDS) -> AsyncIterator[tuple[Peer, Lines]]:
    """A server, and lines to it; in the end all are closed."""
    found = Peer(handle)
    server = await asyncio.start_server(found.serve, HOST, 0)
    lines = Lines(server.sockets[0].getsockname()[1], kept_seconds)
    try:
        yield found, lines
    finally:
        lines.close()
        server.close()
        await until(lambda: found.closed == found.opened)


async def say(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)


async def whole(lines: Lines, request: bytes = REQUEST) -> tuple[int, bytes]:
    """Status and body of the answer."""
    async with lines.exchange(HOST, request, SECONDS) as line:
        return line.status, await read(line.body())


async def test_requests_follow_each_other_on_one_connection() -> None:
    """As long as the peer does not say that it closes it."""
    async with peer(lambda _, writer: say(writer, answer(b"yes"))) as (found, lines):
        assert [await whole(lines) for _ in range(5)] == [(200, b"yes")] * 5
        assert (found.opened, found.requests) == (1, 5)


async def test_a_peer_that_closes_gets_a_new_connection_each_time() -> None:
    """`Connection: close` is heeded, whatever we had asked for, and our side is closed too."""
    async with peer(lambda _, writer: say(writer, answer(b"", 409, "close"))) as (found, lines):
        assert [await whole(lines) for _ in range(3)] == [(409, b"")] * 3
        await until(lambda: found.closed == 3)
        assert found.opened == 3


async def test_a_kept_connection_that_was_closed_meanwhile_is_not_used() -> None:
    """The next request goes over a new one and is answered."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(answer(b"yes"))

    async with peer(handle) as (found, lines):
        await whole(lines)
        writers[0].close()
        await until(lambda: found.closed == 1)
        assert await whole(lines) == (200, b"yes")
        assert (found.opened, found.requests) == (2, 2)


async def test_a_kept_connection_is_closed_when_its_time_is_over() -> None:
    """Nothing stays open to a sandbox that has no more calls."""
    async with peer(lambda _, writer: say(writer, answer(b"")), kept_seconds=0.05) as (found, lines):
        await whole(lines)
        await until(lambda: found.closed == 1)


@pytest.mark.parametrize("head_start", [False, True], ids=["on its way", "there"])
async def test_a_request_takes_the_connection_that_was_begun_for_it(*, head_start: bool) -> None:
    """Whether that is still being made or is there already, no other is made."""
    async with peer(lambda _, writer: say(writer, answer(b"yes"))) as (found, lines):
        lines.approach(HOST)
        lines.approach(HOST)
        if head_start:
            await until(lambda: found.opened == 1)
        assert await whole(lines) == (200, b"yes")
        assert (found.opened, found.requests) == (1, 1)


async def test_a_connection_that_no_request_came_for_is_closed() -> None:
    """A call that does not go to its sandbox after all leaves nothing open."""
    async with peer(lambda _, writer: say(writer, answer(b"")), kept_seconds=0.05) as (found, lines):
        lines.approach(HOST)
        await until(lambda: (found.opened, found.closed) == (1, 1))
        assert await whole(lines) == (200, b"")


async def test_nobody_there_is_told_to_the_request_only() -> None:
    """A connection that did not come about is the request's own failure; later ones try anew."""
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    lines = Lines(port)
    lines.approach(HOST)
    with pytest.raises(NotConnectedError) as refused:
        await whole(lines)
    assert refused.value.refused
    found = Peer(lambda _, writer: say(writer, answer(b"yes")))
    async with await asyncio.start_server(found.serve, HOST, port):
        assert await whole(lines) == (200, b"yes")
        lines.close()
        await until(lambda: found.closed == 1)


async def test_at_most_one_connection_is_kept_for_an_address() -> None:
    """Of several at once, the others are closed when they have their answers."""
    count = 4
    met = asyncio.Barrier(count)

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await met.wait()
        writer.write(answer(b""))

    async with peer(handle) as (found, lines):
        await asyncio.gather(*(whole(lines) for _ in range(count)))
        await until(lambda: found.closed == count - 1)


async def test_an_answer_left_in_the_middle_ends_its_connection() -> None:
    """What is still to come of it must not be taken for the next answer."""

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"123456")[:-3])

    async with peer(handle) as (found, lines):
        async with lines.exchange(HOST, REQUEST, SECONDS) as line:
            async for data in line.body():
                assert data == b"123"
                break
        await until(lambda: found.closed == 1)


async def test_a_peer_that_says_more_than_it_was_asked_is_not_trusted() -> None:
    """What comes behind an answer ends the connection instead of becoming the next answer."""
    async with peer(lambda _, writer: say(writer, answer(b"a") + answer(b"b"))) as (found, lines):
        assert [await whole(lines) for _ in range(2)] == [(200, b"a")] * 2
        assert found.opened == 2


async def test_nobody_there_is_told_apart_from_a_broken_exchange() -> None:
    """Only where no connection came about it is certain that the request was not sent."""
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(NotConnectedError) as refused:
        await whole(Lines(port))
    assert refused.value.refused
    async with peer(lambda _, writer: asyncio.sleep(0, writer.transport.abort())) as (found, lines):
        with pytest.raises(ConnectionError) as broken:
            await whole(lines)
        assert (type(broken.value), found.requests) == (ConnectionResetError, 1)


@pytest.mark.parametrize("said", [b"", answer(b"123456")[:-3]], ids=["no head", "half a body"])
async def test_a_silent_peer_is_given_up(said: bytes) -> None:
    """In the head as in the body; the connection is closed."""
    async with peer(lambda _, writer: say(writer, said)) as (found, lines):
        with pytest.raises(TimeoutError, match="silent"):
            async with lines.exchange(HOST, REQUEST, 0.05) as line:
                await read(line.body())
        await until(lambda: found.closed == 1)


async def test_what_speaks_no_http_is_an_error() -> None:
    """A stranger at a pod's address."""
    async with peer(lambda _, writer: say(writer, b"SSH-2.0-OpenSSH\r\n")) as (_, lines):
        with pytest.raises(ConnectionError, match="no HTTP"):
            await whole(lines)


async def test_a_large_answer_waits_on_the_wire_for_its_reader() -> None:
    """It comes whole, and its sender gets no further than the reader and the buffers between them."""
    piece, pieces = b"0123456789abcdef" * 4096, 400
    sent = itertools.count()
    so_far = 0

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal so_far
        writer.write(answer(piece * pieces)[: -len(piece) * pieces])
        for so_far in sent:
            if so_far == pieces:
                return
            writer.write(piece)
            await writer.drain()

    async with peer(handle) as (found, lines):
        async with lines.exchange(HOST, REQUEST, SECONDS) as line:
            before = -1
            while so_far != before:
                before = so_far
                await asyncio.sleep(0.1)
            assert so_far < pieces, "the sender waits"
            assert await read(line.body()) == piece * pieces
        assert found.opened == 1


async def call_over(lines: Lines, number: int) -> bytes:
    """A call of a sandbox that is used again; returns what it printed."""
    follows = f"e{number - 1}" if number else ""
    body = json.dumps(python(f"print({number})", **reused(follows, f"e{number}"))).encode()
    request = RunnerRequest(method="POST", path=CALL_PATH, token=TOKEN, body=body, streams=True)
    async with lines.exchange(HOST, request.encoded(HOST), SECONDS) as line:
        frames = list(FrameDecoder().feed(await read(line.body())))
    assert (line.status, frames[-1].kind) == (200, FrameKind.REPORT)
    return b"".join(frame.payload for frame in frames if frame.kind is FrameKind.STDOUT)


async def test_a_real_runner_takes_call_after_call_on_one_connection(tmp_path: Path) -> None:
    """A sandbox that is used again has one connection for all its calls, and none when that was closed."""
    with runner_pod(tmp_path) as runner:
        lines, process = Lines(runner.port), psutil.Process(runner.process.pid)

        def connections() -> set[int]:
            found = process.net_connections("tcp")
            return {item.raddr.port for item in found if item.status == psutil.CONN_ESTABLISHED}

        seen = set()
        for number in range(5):
            assert await call_over(lines, number) == f"{number}\n".encode()
            seen |= connections()
        assert len(seen) == 1
        lines.close()
        await until(lambda: not connections())
