"""Moves a child's output into the journal and never stops reading, whatever the limits: a full pipe would block it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import partial

from executor_runner.journal import Journal
from executor_runner.loop import Loop
from executor_runner.output import OutputCapture
from executor_runner.protocol.frames import STREAM_FRAMES, FrameKind, Stream, encode_json
from executor_runner.protocol.shapes import Gap

READ_BYTES = 64 * 1024
"""Bytes of one read: what malloc serves without asking the kernel for memory each time."""
_MOST_DRAIN = 64 * 1024 * 1024


class OutputPump:
    """Reads both streams. ``on_bytes(stream, total)`` is told after every read."""

    def __init__(self, loop: Loop, journal: Journal, descriptors: dict[Stream, int], keep_bytes: int) -> None:
        self._loop = loop
        self._journal = journal
        self._open = dict(descriptors)
        self._captures = {stream: OutputCapture(keep_bytes) for stream in Stream}
        self.on_bytes: Callable[[Stream, int], None] = lambda _stream, _total: None

    def start(self) -> None:
        """Read whenever there is something."""
        for stream, descriptor in self._open.items():
            self._loop.watch(descriptor, read=partial(self._on_readable, stream))

    def total_bytes(self, stream: Stream) -> int:
        """What the child wrote to it so far."""
        return self._captures[stream].total_bytes

    def dropped_bytes(self, stream: Stream) -> int:
        """What was not kept; exact after `drain`."""
        return self._captures[stream].dropped_bytes

    def drain(self) -> None:
        """Take what the pipes still hold and close the journal's output.

        Never waits for a pipe's end: a process that can't be killed may hold it open.
        """
        for stream in Stream:
            drained = 0
            while drained < _MOST_DRAIN and self._read(stream):
                drained += READ_BYTES
            self._close(stream)
            dropped, tail = self._captures[stream].finish()
            if dropped:
                self._journal.append(FrameKind.GAP, encode_json(Gap(stream=stream, dropped_bytes=dropped)))
            if tail:
                self._journal.append(STREAM_FRAMES[stream], tail)

    def _on_readable(self, stream: Stream) -> None:
        self._read(stream)

    def _read(self, stream: Stream) -> bool:
        """Read once; False when there is nothing more, or not now."""
        data = read_available(self._open[stream]) if stream in self._open else None
        if data is None:
            return False
        if not data:
            self._close(stream)
            return False
        capture = self._captures[stream]
        head = capture.feed(data)
        if head:
            self._journal.append(STREAM_FRAMES[stream], head)
        self.on_bytes(stream, capture.total_bytes)
        return True

    def _close(self, stream: Stream) -> None:
        descriptor = self._open.pop(stream, None)
        if descriptor is not None:
            self._loop.watch(descriptor)
            os.close(descriptor)


def read_available(descriptor: int) -> bytes | None:
    """What a non-blocking descriptor has; None if nothing for now, empty at its end."""
    with contextlib.suppress(BlockingIOError):
        return os.read(descriptor, READ_BYTES)
    return None
