"""Sent to a sandbox as the code of a call: which doors open from in there, and who gets in. Standard library only."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

OPEN, STRANGE = "open", "strange"
"""Who was meant answered; somebody else did. Any other outcome is the error that kept us out."""
SHUT = ("ETIMEDOUT", "ECONNREFUSED", "EHOSTUNREACH", "EPERM")
"""The errors by which a network keeps somebody out."""
LISTEN_SECONDS = 0.9
"""For how long an entrance is open at least: more than a second would make a trial notably longer."""
_PAUSE_SECONDS, _POLL_SECONDS = 0.25, 0.1
_MOST_REPLY = 4096

Address = tuple[str, int, str]


def look(
    doors: list[Address], entrances: list[Address], runner_port: int, seconds: float, patience: float
) -> dict[str, Any]:
    """Knock at all doors (address, port, and the text by which who is meant shows) at once, and listen at entrances.

    ``seconds`` is how long one attempt may take. A door that is open is tried again for ``patience`` seconds: the
    network may need a moment to shut it. ``callers`` are the far ends of connections to our runner. ``listened``: for
    how many seconds we did at each entrance, while we knocked, while somebody came, and at least `LISTEN_SECONDS`.
    """
    callers, over = _callers(runner_port), Event()
    with ThreadPoolExecutor(len(doors) + len(entrances)) as pool:
        listening = [pool.submit(_listen, entrance, over, patience) for entrance in entrances]
        try:
            found = list(pool.map(lambda door: _watch(door, seconds, patience), doors))
        finally:
            over.set()
        return {"doors": found, "callers": callers, "listened": [item.result() for item in listening]}


def _listen(entrance: Address, over: Event, patience: float) -> float:
    """Greet whoever comes, as `knock` expects it. Returns 0.0 if we can't listen there."""
    address, port, greeting = entrance
    try:
        listener = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    except OSError:
        return 0.0
    with listener:
        began = quiet_since = now = time.monotonic()
        listener.settimeout(_POLL_SECONDS)
        while not over.is_set() or (now - quiet_since < LISTEN_SECONDS and now - began < patience):
            with suppress(OSError):  # nobody came, or left at once
                line, _ = listener.accept()
                quiet_since = time.monotonic()
                with line:
                    line.settimeout(_PAUSE_SECONDS)
                    line.recv(_MOST_REPLY)
                    line.sendall(greeting.encode())
            now = time.monotonic()
        return now - began


def _watch(door: Address, seconds: float, patience: float) -> dict[str, Any]:
    began, open_until = time.monotonic(), 0.0
    while True:
        outcome = knock(*door, seconds)
        now = time.monotonic() - began
        if outcome != OPEN or now > patience:
            return {"outcome": outcome, "open_seconds": open_until}
        open_until = now
        time.sleep(_PAUSE_SECONDS)


def knock(address: str, port: int, greeting: str, seconds: float) -> str:
    """Connect, for so long at most; returns what came of it."""
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
