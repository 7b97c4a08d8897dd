"""Frames and the journal they form. One frame: kind (one byte), payload length (four, big-endian), payload. Pure."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple


class FrameKind(IntEnum):
    """First byte of a frame."""

    STARTED = ord("S")  # JSON: the child runs; carries `Started`
    STDOUT = ord("O")  # raw bytes
    STDERR = ord("E")  # raw bytes
    GAP = ord("G")  # JSON `Gap`: bytes of one stream that were dropped at this place
    ARTIFACT = ord("A")  # `encode_artifact`
    HEARTBEAT = ord("H")  # empty: the runner lives, nothing to say
    REPORT = ord("R")  # JSON `Report`: the last frame


class Stream(IntEnum):
    """A child's output stream, numbered as its descriptor."""

    STDOUT = 1
    STDERR = 2


STREAM_FRAMES = {Stream.STDOUT: FrameKind.STDOUT, Stream.STDERR: FrameKind.STDERR}


class Frame(NamedTuple):
    """One decoded frame, and the journal offset just behind it."""

    kind: FrameKind
    payload: bytes
    end_offset: int


class ProtocolError(Exception):
    """The peer sent bytes that are no journal of this version."""


_HEADER = struct.Struct(">BI")
MAX_FRAME = 64 * 1024 * 1024


def encode_frame(kind: FrameKind, payload: bytes = b"") -> bytes:
    """Return the frame's bytes. Raises ``ValueError`` beyond `MAX_FRAME`."""
    if len(payload) > MAX_FRAME:
        raise ValueError(f"frame payload of {len(payload)} bytes; the most is {MAX_FRAME}")
    return _HEADER.pack(kind, len(payload)) + payload


class FrameDecoder:
    """Turns journal bytes, cut anywhere, into frames."""

    def __init__(self, offset: int = 0) -> None:
        self._buffer = bytearray()
        self.offset = offset
        """Journal offset behind the last whole frame: where to take the journal up again."""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield each frame completed by ``data``. Raises `ProtocolError` on an unknown kind or an absurd length."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._buffer)
            if length > MAX_FRAME:
                raise ProtocolError(f"frame of {length} bytes at offset {self.offset}")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            self.offset += end
            try:
                yield Frame(FrameKind(kind), payload, self.offset)
            except ValueError:
                raise ProtocolError(f"unknown frame kind {kind} before offset {self.offset}") from None


def encode_json(value: object) -> bytes:
    """Compact JSON, ASCII only, so that it survives any carrier."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def encode_artifact(path: str, content: bytes) -> bytes:
    """Payload of an artifact frame: path's length (two bytes), path in UTF-8, content."""
    name = path.encode()
    return struct.pack(">H", len(name)) + name + content


def decode_artifact(payload: bytes) -> tuple[str, bytes]:
    """Return path and content of an artifact frame's payload."""
    (length,) = struct.unpack_from(">H", payload)
    return payload[2 : 2 + length].decode(), payload[2 + length :]
