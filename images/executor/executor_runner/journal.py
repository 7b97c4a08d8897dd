"""The journal of one call: append-only, bounded by the call's output limits, read by anyone from any offset."""

from __future__ import annotations

from collections.abc import Callable

from executor_runner.protocol.frames import FrameKind, encode_frame


class Journal:
    """Frames so far. Listeners are told when it has grown; they read by offset at their own pace."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._listeners: list[Callable[[FrameKind, bytes], None]] = []
        self.complete = False

    def __len__(self) -> int:
        return len(self._data)

    def add_listener(self, listener: Callable[[FrameKind, bytes], None]) -> None:
        """Call ``listener(kind, payload)`` behind every frame appended from now on."""
        self._listeners.append(listener)

    def append(self, kind: FrameKind, payload: bytes = b"") -> None:
        """Append one frame; a report completes the journal."""
        self._data += encode_frame(kind, payload)
        self.complete = kind is FrameKind.REPORT
        for listener in self._listeners:
            listener(kind, payload)
        if self.complete:
            self._listeners.clear()

    def read(self, offset: int, most: int = 256 * 1024) -> bytes:
        """Bytes from an offset on, at most that many."""
        return bytes(self._data[offset : offset + most])
