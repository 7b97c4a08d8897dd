"""The connections of one server, of which there are only so many: who says nothing makes room for who comes."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Generic, TypeVar

Connection = TypeVar("Connection")

_ENOUGH = 65_536
"""Descriptors; some systems allow so many that tables of their size would be made for every child process."""
_OTHERS = 256
"""Descriptors for all but connections and calls: files, logs, the database."""
_EACH = 2
"""Descriptors of a call that runs."""
_FEWEST = 64


class Crowd(Generic[Connection]):
    """No I/O: whoever asks closes the connections that have to go."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._silent: dict[Connection, None] = {}  # the one that has been so for longest comes first

    def enter(self, connection: Connection) -> Connection | None:
        """One more, which is silent. Returns who has to go for it, if anybody: perhaps itself."""
        self._count += 1
        self._silent[connection] = None
        if self._count <= self._most:
            return None
        goes = next(iter(self._silent))
        self.speaks(goes)
        return goes

    def speaks(self, connection: Connection) -> None:
        """It has sent the head of a request, and stays until that is answered."""
        self._silent.pop(connection, None)

    def falls_silent(self, connection: Connection) -> None:
        """It has an answer and may send another request."""
        self._silent[connection] = None

    def leave(self, connection: Connection) -> None:
        """It is closed."""
        self._count -= 1
        self.speaks(connection)


def most_connections(calls: int) -> int:
    """How many connections this process has descriptors for beside so many calls; it lets itself have all it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft < wanted:
        with suppress(ValueError, OSError):  # macOS says that it allows more than it does
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(_FEWEST, soft - _OTHERS - _EACH * calls)
