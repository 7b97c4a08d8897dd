"""Keeps the head and the tail of a stream, counts what lies between. Pure: bytes in, bytes out."""

from __future__ import annotations

_CONTINUATION = range(0x80, 0xC0)
_LONGEST_CHARACTER = 4


class OutputCapture:
    """One stream of a child. The head is handed on as it comes; the tail is known at the end only."""

    def __init__(self, keep_bytes: int) -> None:
        self._head_room = keep_bytes - keep_bytes // 2
        self._tail_size = keep_bytes // 2
        self._tail = bytearray()
        self._held = b""  # the beginning of a character whose rest is not there yet
        self.total_bytes = 0
        self.dropped_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """Take what the child wrote and return the part that belongs to the head, to be sent at once."""
        self.total_bytes += len(data)
        data, self._held = self._held + data, b""
        head = _whole_characters(data[: self._head_room])
        if len(data) > self._head_room:
            self._tail_size += self._head_room - len(head)  # what the character that did not fit leaves over
            self._head_room = 0
            self._keep_tail(data[len(head) :])
        else:
            self._head_room -= len(head)
            self._held = data[len(head) :]
        return head

    def finish(self) -> tuple[int, bytes]:
        """Return how many bytes were dropped behind the head, and the tail that follows them."""
        if self._held:
            return 0, self._held
        tail = bytes(self._tail)
        excess = len(tail) - self._tail_size
        if self.dropped_bytes or excess > 0:
            tail = _from_character_start(tail[max(0, excess) :])
        self.dropped_bytes += len(self._tail) - len(tail)
        self._tail.clear()
        return self.dropped_bytes, tail

    def _keep_tail(self, data: bytes) -> None:
        self._tail += data
        excess = len(self._tail) - self._tail_size
        if excess > self._tail_size:  # seldom, so that each byte is moved about once
            del self._tail[:excess]
            self.dropped_bytes += excess


def _whole_characters(data: bytes) -> bytes:
    """Cut a UTF-8 character that is not complete off the end, so that the head stays text if the stream is."""
    for back in range(1, min(_LONGEST_CHARACTER, len(data)) + 1):
        byte = data[-back]
        if byte in _CONTINUATION:
            continue
        needed = 1 + (byte >= 0xC0) + (byte >= 0xE0) + (byte >= 0xF0)  # noqa: PLR2004 - UTF-8's lead bytes
        return data[:-back] if needed > back else data
    return data


def _from_character_start(data: bytes) -> bytes:
    """Skip the rest of a UTF-8 character that was cut."""
    start = 0
    while start < min(_LONGEST_CHARACTER - 1, len(data)) and data[start] in _CONTINUATION:
        start += 1
    return data[start:]
