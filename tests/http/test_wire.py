"""What comes over a connection before there is a request, or instead of one."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import socket
import struct
import termios
from typing import Any

import pytest
from support.http_service import Service, ServiceMaker
from support.playback import WAITING

from executor_api.http.crowd import Crowd, Unsent
from executor_api.http.protocol import MOST_PIPELINED


async def said(service: Service, *pieces: bytes) -> tuple[bytes, dict[str, Any]]:
    """Send the pieces; return the status line and the problem of the answer that ends the connection."""
    async with service.connection() as (reader, writer):
        answer = asyncio.create_task(reader.read())
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        head, _, body = (await asyncio.wait_for(answer, 60)).partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    return head.splitlines()[0], json.loads(body)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x00\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"POST /execute HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /execute HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem_too(service: Service, data: bytes) -> None:
    """TLS on a plain port, raw bytes in a path, lengths that contradict each other."""
    status, problem = await said(service, data)
    assert (status, problem["type"]) == (b"HTTP/1.1 400 Bad Request", "/problems/malformed")
    assert await service.count() == 0


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nA: "])
async def test_a_head_without_end_is_refused(service: Service, start: bytes) -> None:
    """Its bytes are not collected for as long as they come."""
    status, problem = await said(service, start, *[b"x" * 16_384] * 9)
    assert (status, problem["status"]) == (b"HTTP/1.1 431 Request Header Fields Too Large", 431)


async def test_a_large_body_in_one_piece_with_its_head_is_no_large_head(service: Service) -> None:
    """Only what stands before the body counts, for the next request on the connection too."""
    body = json.dumps({"code": "1", "stdin": "x" * 300_000}).encode()
    head = (
        b"POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        % len(body)
    )
    async with service.connection() as (reader, writer):
        for _ in range(2):
            writer.write(head + b"\r\n" + body)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            length = int((await reader.readuntil(b"\r\n\r\n")).partition(b"content-length: ")[2].split()[0])
            await reader.readexactly(length)


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost"])
async def test_a_head_that_does_not_come_closes_the_connection(make_service: ServiceMaker, start: bytes) -> None:
    """Connections that say nothing can't use up the service's descriptors."""
    service = await make_service(body_timeout_seconds=0.05)
    async with service.connection() as (reader, writer):
        writer.write(start)
        assert await asyncio.wait_for(reader.read(), 60) == b""


async def test_a_body_that_drips_is_given_up(make_service: ServiceMaker) -> None:
    """A byte now and then is not enough to hold a connection."""
    service = await make_service(body_timeout_seconds=0.2)
    async with service.connection() as (reader, writer):
        writer.write(b"POST /execute HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
        line = asyncio.create_task(reader.readline())
        while not line.done():
            writer.write(b" ")
            await asyncio.wait({line}, timeout=0.05)
        assert (await line).startswith(b"HTTP/1.1 422")


async def test_requests_that_wait_for_their_turn_are_bounded(service: Service) -> None:
    """Many sent at once are answered in order; of ten thousand, nobody keeps those behind the first."""
    request = b"GET /healthz HTTP/1.1\r\n\r\n"
    async with service.connection() as (reader, writer):
        writer.write(request * (MOST_PIPELINED - 1) + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert (await reader.read()).count(b"HTTP/1.1 200") == MOST_PIPELINED
    async with service.connection() as (reader, writer):
        writer.write(request * 10_000)
        came = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := await reader.read(65536):
                came += piece
        assert came.count(b"HTTP/1.1 200") < 10_000


async def test_a_body_may_come_byte_by_byte(service: Service) -> None:
    """It is read a few times a second, as a whole it is what was sent, and the next request is answered as ever."""
    body = json.dumps({"code": "1", "stdin": "x" * 100}).encode()
    async with service.connection() as (reader, writer):
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):
            writer.write(_HEAD + b"%d\r\n\r\n" % len(body))
            for number in range(len(body)):
                writer.write(body[number : number + 1])
                await writer.drain()
                await asyncio.sleep(0)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            length = int((await reader.readuntil(b"\r\n\r\n")).partition(b"content-length: ")[2].split()[0])
            assert json.loads(await reader.readexactly(length))["status"] == "succeeded"


async def test_answers_that_are_read_late_come_whole_and_in_order(service: Service) -> None:
    """The next request on a connection has its turn once the answer before it is read; nobody loses one for it."""
    request = b"GET /openapi.json HTTP/1.1\r\n\r\n"
    async with service.connection() as (reader, writer):
        writer.write(request * 100)
        await asyncio.sleep(0.2)  # in which it fills what the two systems hold
        for _ in range(100):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            length = int((await reader.readuntil(b"\r\n\r\n")).partition(b"content-length: ")[2].split()[0])
            assert json.loads(await reader.readexactly(length)) == service.document


def test_what_nobody_reads_is_bounded() -> None:
    """Beyond so many bytes of answers, those go that have not read for longest."""
    unsent = Unsent[str](100)
    assert [unsent.waits(name, size) for name, size in (("a", 60), ("b", 40), ("c", 30))] == [[], [], ["a"]]
    unsent.flows("b")
    assert unsent.waits("d", 70) == []
    assert unsent.waits("e", 200) == ["c", "d", "e"]


async def test_who_takes_longest_to_say_what_it_wants_makes_room(make_service: ServiceMaker) -> None:
    """Beyond the most connections it has to go; one whose call runs stays and is answered."""
    service = await make_service(connections=6)
    await service.client.aclose()  # its connection counts too
    async with contextlib.AsyncExitStack() as stack:

        async def connect(request: bytes = b"") -> asyncio.StreamReader:
            reader, writer = await stack.enter_async_context(service.connection())
            writer.write(request)
            return reader

        body = json.dumps({"code": WAITING}).encode()
        busy = await connect(b"%s%d\r\n\r\n%s" % (_HEAD, len(body), body))
        await service.backend.waiting.wait()
        half_body = await connect(b"%s%d\r\n\r\n%s" % (_HEAD, len(body), body[:-1]))
        half_head, silent, *_ = await connect(b"GET /heal"), await connect(), await connect(), await connect()
        for goes in (half_body, half_head, silent):
            answered = await connect(b"GET /healthz HTTP/1.1\r\n\r\n")
            assert (await answered.readline()).startswith(b"HTTP/1.1 200")
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(goes.read(), 60) == b""
        service.backend.release.set()
        assert (await busy.readline()).startswith(b"HTTP/1.1 200")


async def test_a_flood_of_strangers_closes_no_kept_connection(make_service: ServiceMaker) -> None:
    """Whoever has been answered keeps the connection while many times as many come as there is room for."""
    service = await make_service(connections=4)
    await service.client.aclose()
    async with service.connection() as (reader, writer):
        for _ in range(20):
            writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200")
            await reader.readexactly(int(answer.partition(b"content-length: ")[2].split()[0]))
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(20):
                    await stack.enter_async_context(service.connection())


def test_kept_connections_leave_room_for_others() -> None:
    """Those who have been answered once and come no more hold half of the room, and nobody is kept out by them."""
    crowd = Crowd[int](4)
    for guest in range(4):
        crowd.enter(guest)
        crowd.listens(guest)
        crowd.may_speak(guest)
    gone = [crowd.enter(stranger) for stranger in range(4, 9)]
    assert gone == [0, 1, 4, 5, 6]


async def test_who_does_not_read_its_answers_makes_room(make_service: ServiceMaker) -> None:
    """Requests that need no key and whose answers nobody takes hold no connection that another client needs."""
    service = await make_service(connections=3)
    await service.client.aclose()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(3)]
        for deaf in clients:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", service.port))
            deaf.sendall(b"GET /openapi.json HTTP/1.1\r\n\r\n" * MOST_PIPELINED)
        came, before = [0], [-1]
        while came != before or not all(came):  # until the system's own buffers are full
            await asyncio.sleep(0.1)
            before, came = came, [_unread(deaf) for deaf in clients]
        answered = 0
        async with asyncio.timeout(60):
            while answered < 4:  # in a row, once the server's buffers are full, too
                answered = answered + 1 if await _is_answered(service) else 0


async def _is_answered(service: Service) -> bool:
    async with service.connection() as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            return (await reader.readline()).startswith(b"HTTP/1.1 200")
    return False


def _unread(client: socket.socket) -> int:
    """Bytes that have come and that nobody has read."""
    count: int = struct.unpack("i", fcntl.ioctl(client, termios.FIONREAD, b"\0" * 4))[0]
    return count


_HEAD = b"POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
