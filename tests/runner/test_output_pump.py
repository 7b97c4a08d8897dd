"""The pump: what two pipes hold goes into the journal, bounded, and a full pipe never waits for us."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator

import pytest

from executor_runner.journal import Journal
from executor_runner.loop import Loop
from executor_runner.protocol.frames import FrameDecoder, FrameKind, Stream
from executor_runner.pump import OutputPump


class Streams:
    """Two pipes with a pump at one end."""

    def __init__(self, keep_bytes: int) -> None:
        self.loop = Loop()
        self.journal = Journal()
        (out, self.out), (err, self.err) = os.pipe(), os.pipe()
        for descriptor in (out, err):
            os.set_blocking(descriptor, False)
        self.pump = OutputPump(self.loop, self.journal, {Stream.STDOUT: out, Stream.STDERR: err}, keep_bytes)

    def frames(self) -> list[tuple[FrameKind, bytes]]:
        """What the journal holds."""
        return [(frame.kind, frame.payload) for frame in FrameDecoder().feed(self.journal.read(0, 1 << 30))]


@pytest.fixture
def streams() -> Iterator[Streams]:
    streams = Streams(keep_bytes=1000)
    yield streams
    for descriptor in (streams.out, streams.err):
        os.close(descriptor)
    streams.pump.drain()
    streams.loop.close()


def test_output_is_in_the_journal_as_it_comes(streams: Streams) -> None:
    """Each stream's bytes are journalled when they are there, and counted."""
    seen: list[tuple[Stream, int]] = []
    streams.pump.on_bytes = lambda stream, total: (seen.append((stream, total)), streams.loop.stop())[0]
    streams.pump.start()
    os.write(streams.out, b"one")
    streams.loop.run()
    assert streams.frames() == [(FrameKind.STDOUT, b"one")]
    assert seen == [(Stream.STDOUT, 3)]


def test_draining_waits_for_nobody(streams: Streams) -> None:
    """With the pipes still open at the other end, draining takes what is there and returns."""
    os.write(streams.out, b"out")
    os.write(streams.err, b"err")
    streams.pump.drain()
    assert streams.frames() == [(FrameKind.STDOUT, b"out"), (FrameKind.STDERR, b"err")]
    assert (streams.pump.total_bytes(Stream.STDOUT), streams.pump.dropped_bytes(Stream.STDERR)) == (3, 0)


def test_what_is_dropped_is_said_where_it_is_missing(streams: Streams) -> None:
    """Head, gap with the exact count, tail."""
    os.write(streams.out, b"h" * 500 + b"m" * 300 + b"t" * 500)
    streams.pump.drain()
    (head, gap, tail) = streams.frames()
    assert head == (FrameKind.STDOUT, b"h" * 500)
    assert json.loads(gap[1]) == {"stream": 1, "dropped_bytes": 300}
    assert tail == (FrameKind.STDOUT, b"t" * 500)


def test_a_flood_is_read_to_its_end_and_the_journal_stays_small(streams: Streams) -> None:
    """A writer of 20 MB is never blocked for long, every byte is counted, and little is kept."""
    size = 20_000_000
    line = b"x" * 99 + b"\n"

    def flood() -> None:
        with open(streams.out, "wb", closefd=False) as file:
            file.writelines(line * 1000 for _ in range(size // 100_000))

    streams.pump.on_bytes = lambda _stream, total: streams.loop.stop() if total == size else None
    streams.pump.start()
    thread = threading.Thread(target=flood)
    thread.start()
    streams.loop.run()
    thread.join()
    streams.pump.drain()
    assert streams.pump.total_bytes(Stream.STDOUT) == size
    assert streams.pump.dropped_bytes(Stream.STDOUT) == size - 1000
    assert len(streams.journal) < 1200


def test_a_closed_stream_is_forgotten(streams: Streams) -> None:
    """A child that closes a stream costs no turns of the loop, and the other stream goes on."""
    reader, writer = os.pipe()
    os.close(writer)
    os.set_blocking(reader, False)
    pump = OutputPump(streams.loop, streams.journal, {Stream.STDOUT: reader}, 1000)
    pump.start()
    streams.loop.call_later(0.02, streams.loop.stop)
    streams.loop.run()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(reader)
    pump.drain()
    assert streams.frames() == []
