"""The local backend's carrier: one connected socket instead of HTTP, for the same call and journal.

The service sends the call's length (four bytes, big-endian) and the call, later perhaps `CANCEL`; the runner sends
the journal. With `Reuse` the next call follows on the same socket. A runner that takes no (further) call sends
`REFUSED` where a journal would begin, and ends. When the service's end closes, the service is gone or wants nothing
more, and the sandbox ends.
"""

from __future__ import annotations

import struct

CANCEL = b"K"
"""No call begins with it, as none is so long: one that comes too late is told from the next call."""
REFUSED = b"-"
"""No frame begins with it. Sent only behind all that was read: the call that finds it was not taken."""
MAKE = b"+"
"""To a nursery, once for each sandbox wanted."""
_LENGTH = struct.Struct(">I")


def encode_call(body: bytes) -> bytes:
    """What the service sends."""
    return _LENGTH.pack(len(body)) + body


def decode_call(data: bytes | bytearray) -> tuple[bytes, bytes] | None:
    """The call and what came behind it, or None if it is not complete yet."""
    if len(data) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(data)
    end = _LENGTH.size + length
    return (bytes(data[_LENGTH.size : end]), bytes(data[end:])) if len(data) >= end else None
