"""Clients that mean no good, in a process of their own: `python benchmarks/attackers.py ATTACK URL`, until SIGTERM.

idle         connections that never say anything
slow-heads   requests whose head comes a line a second and never ends
huge-heads   requests with a megabyte of headers, one after another
half-bodies  requests that send half of the body they promise, and wait
drips        bodies that come one byte after another
pipelines    small requests, as many as a connection takes, whose answers nobody reads
deaf         requests for a large result, over and over, of which nobody reads any
deaf-streams the same by event streams
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import uvloop

_MEGABYTE = 1024 * 1024
_HEAD = b"POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
_PACE_SECONDS = 1.0
_DRIP_SECONDS = 0.02
_PIPELINED = 10_000
_LARGE = b'{"command": "yes out | head -c 1000000; yes err | head -c 1000000 >&2"}'

Send = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    return


async def _slow_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_HEAD)
    while not reader.at_eof():
        writer.write(b"X-More: and more\r\n")
        await writer.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PACE_SECONDS):
                await reader.read()


async def _huge_head(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_HEAD + (b"X-Large: " + b"x" * 1000 + b"\r\n") * 1024)
    await writer.drain()


async def _half_body(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_HEAD + b"Content-Length: %d\r\n\r\n" % _MEGABYTE + b" " * (_MEGABYTE // 2))
    await writer.drain()


async def _drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_HEAD + b"Content-Length: %d\r\n\r\n" % _MEGABYTE)
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(_DRIP_SECONDS)


async def _ask_and_not_read(writer: asyncio.StreamWriter, request: bytes) -> None:
    while not writer.is_closing():
        writer.write(request)
        await writer.drain()
        await asyncio.sleep(_PACE_SECONDS)
    raise ConnectionResetError


async def _pipeline(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _ask_and_not_read(writer, b"GET /healthz HTTP/1.1\r\n\r\n" * _PIPELINED)


def _deaf(accept: bytes) -> Send:
    """All ask for the result of one call, which the first of them has run."""
    fields = b"Idempotency-Key: large\r\nAccept: %s\r\nContent-Length: %d\r\n\r\n" % (accept, len(_LARGE))

    async def send(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _ask_and_not_read(writer, _HEAD + fields + _LARGE)

    return send


@dataclass(frozen=True, slots=True)
class Attack:
    """So many connections, each sending that; one that is thrown out comes again after ``pause`` seconds."""

    connections: int
    send: Send
    pause: float = 0.0


ATTACKS = {
    "idle": Attack(2000, _nothing),
    "slow-heads": Attack(500, _slow_head),
    "huge-heads": Attack(4, _huge_head, pause=0.2),
    "half-bodies": Attack(500, _half_body),
    "drips": Attack(200, _drip),
    "pipelines": Attack(100, _pipeline),
    "deaf": Attack(200, _deaf(b"application/json")),
    "deaf-streams": Attack(200, _deaf(b"text/event-stream")),
}


class Attackers:
    """The connections of one attack, and what becomes of them."""

    def __init__(self, attack: Attack, url: str) -> None:
        self._attack = attack
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        self.ends: collections.Counter[str] = collections.Counter()
        self.open = 0

    async def one(self) -> None:
        """One connection after another."""
        while True:
            try:
                reader, writer = await asyncio.open_connection(self._host, self._port)
            except OSError as error:
                self.ends[f"no connection: {error.strerror}"] += 1
                await asyncio.sleep(_PACE_SECONDS)
                continue
            self.open += 1
            self.ends[await self._end(reader, writer)] += 1
            self.open -= 1
            writer.close()
            await asyncio.sleep(self._attack.pause)

    async def _end(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        try:
            await self._attack.send(reader, writer)
            first = await reader.read(100)
        except ConnectionError:
            return "broken off"
        return first.partition(b"\r\n")[0].decode() or "closed without a word"


async def _run(name: str, url: str) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    attack, told = ATTACKS[name], asyncio.Event()
    attackers = Attackers(attack, url)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    tasks = [asyncio.create_task(attackers.one()) for _ in range(attack.connections)]
    await asyncio.sleep(_PACE_SECONDS)
    print(f"{attackers.open} of {attack.connections} connections are open", flush=True)
    await told.wait()
    print(f"{attackers.open} are open in the end; others were ended by: {dict(attackers.ends)}", flush=True)
    del tasks
    os._exit(0)  # thousands of connections need no farewell


if __name__ == "__main__":
    uvloop.run(_run(*sys.argv[1:]))
