"""What the descriptors of a process are, and which of its sockets the peer has closed long ago."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from itertools import islice

_MOST_DESCRIPTORS = 100_000
_CLOSE_WAIT = b"08"
_STEP = -1 if sys.byteorder == "little" else 1


def read_links(folder: str, most: int = _MOST_DESCRIPTORS) -> Iterator[str]:
    """Where the descriptors of a process lead; those it closes meanwhile are left out. Raises ``OSError``."""
    with os.scandir(f"{folder}/fd") as entries:
        for entry in islice(entries, most):
            with suppress(OSError):
                yield os.readlink(entry.path)  # noqa: PTH115 - as text, fast


def count_kinds(links: Iterable[str]) -> dict[str, int]:
    """How many of each kind, the most frequent first."""
    return dict(Counter(_kind(link) for link in links).most_common())


def socket_numbers(links: Iterable[str]) -> set[int]:
    """Inodes of the sockets among them."""
    return {int(link[8:-1]) for link in links if link.startswith("socket:[")}


class ClosedByPeers:
    """Sockets in CLOSE_WAIT: of each network namespace its table is read once, all of them for ``seconds`` at most."""

    def __init__(self, seconds: float = 3.0) -> None:
        self._left = seconds
        self._tables: dict[str, dict[int, str]] = {}
        self.is_cut = False
        """Whether a table was too long, and its end was not read."""

    def count(self, folder: str, sockets: set[int]) -> dict[str, int]:
        """Of these sockets of a process, by the peer that closed its side, the most frequent first."""
        try:
            namespace = os.readlink(f"{folder}/ns/net")  # noqa: PTH115 - the link is no path
        except OSError:
            namespace = folder
        if namespace not in self._tables:
            self._tables[namespace] = self._read(folder)
        table = self._tables[namespace]
        return dict(Counter(_peer(table[number]) for number in sockets & table.keys()).most_common())

    def _read(self, folder: str) -> dict[int, str]:
        """The peers' addresses by the number of the socket."""
        found: dict[int, str] = {}
        began = time.monotonic()
        for name in ("tcp", "tcp6"):
            with suppress(OSError), open(f"{folder}/net/{name}", "rb", buffering=1 << 16) as lines:  # noqa: PTH123
                for line in lines:  # there may be millions
                    if time.monotonic() - began >= self._left:
                        self.is_cut = True
                        break
                    words = line.split(None, 10)
                    if words[3] == _CLOSE_WAIT:
                        found[int(words[9])] = words[2].decode("ascii")
        self._left -= time.monotonic() - began
        return found


def _kind(link: str) -> str:
    if link.startswith("anon_inode:"):
        return link.removeprefix("anon_inode:").strip("[]")
    if link.startswith("/"):
        return "deleted files" if link.endswith(" (deleted)") else "devices" if link.startswith("/dev/") else "files"
    return link.partition(":")[0] + "s"


def _peer(text: str) -> str:
    """The kernel writes an address as words in the machine's byte order."""
    address, _, port = text.partition(":")
    raw = b"".join(bytes.fromhex(address[i : i + 8])[::_STEP] for i in range(0, len(address), 8))
    if len(raw) == 4:  # noqa: PLR2004 - bytes of an IPv4 address
        return f"{IPv4Address(raw)}:{int(port, 16)}"
    six = IPv6Address(raw)
    return f"{six.ipv4_mapped}:{int(port, 16)}" if six.ipv4_mapped else f"[{six}]:{int(port, 16)}"
