"""Sent to a sandbox as the code of a call: which doors can be opened from in there. Standard library only."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

OPEN, STRANGE = "open", "strange"
"""Who was meant answered; somebody else did. Any other outcome is the error that kept us out."""
SHUT = ("ETIMEDOUT", "ECONNREFUSED", "EHOSTUNREACH", "EPERM")
"""The errors by which a network keeps somebody out."""
_PAUSE_SECONDS = 0.25
_MOST_REPLY = 4096


def look(doors: list[tuple[str, int, str]], runner_port: int, seconds: float, patience: float) -> dict[str, Any]:
    """Knock at all doors (address, port, and the text by which who is meant shows) at once.

    ``seconds`` is how long one attempt may take. A door that is open is tried again for ``patience`` seconds: the
    network may need a moment to shut it. ``callers`` are the far ends of connections to our runner.
    """
    callers = _callers(runner_port)
    with ThreadPoolExecutor(len(doors)) as pool:
        found = list(pool.map(lambda door: _watch(door, seconds, patience), doors))
    return {"doors": found, "callers": callers}


def _watch(door: tuple[str, int, str], seconds: float, patience: float) -> dict[str, Any]:
    began, open_until = time.monotonic(), 0.0
    while True:
        outcome = _knock(*door, seconds)
        now = time.monotonic() - began
        if outcome != OPEN or now > patience:
            return {"outcome": outcome, "open_seconds": open_until}
        open_until = now
        time.sleep(_PAUSE_SECONDS)


def _knock(address: str, port: int, greeting: str, seconds: float) -> str:
    try:
        line = socket.create_connection((address, port), seconds)
    except TimeoutError:
        return "ETIMEDOUT"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, f"{type(error).__name__}: {error}")
    with line:
        return OPEN if not greeting or greeting in _reply(line) else STRANGE


def _reply(line: socket.socket) -> str:
    reply = b""
    with suppress(OSError):
        line.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        while len(reply) < _MOST_REPLY and (data := line.recv(_MOST_REPLY)):
            reply += data
    return reply.decode("latin-1")


def _callers(port: int) -> list[tuple[str, int]]:
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):  # no IPv6, or no such file in this kind of container
            rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
            found += [_end(row[2]) for row in rows if _end(row[1])[1] == port]
    return found


def _end(text: str) -> tuple[str, int]:
    """Address and port of ``0100007F:1F90``: words of 32 bits, each a number in the machine's own order."""
    words, _, port = text.partition(":")
    raw = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    address = ipaddress.ip_address(raw)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address), int(port, 16)
