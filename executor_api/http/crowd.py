"""The connections of one server, of which there are only so many.

Who takes longest to say what it wants, says nothing, or does not read its answers, makes room for who comes.
"""

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
    """No I/O: whoever asks closes the connections that have to go.

    Strangers have not been answered yet, or do not take their answers. Guests have been, and keep the connection for
    their next request, which may be on its way when they are told to go. So strangers go first, however fast they
    come, until they are fewer than the guests: those who only ever asked once can't keep everybody else out.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._listening: set[Connection] = set()
        self._strangers: dict[Connection, None] = {}  # as the guests: the one that is so for longest comes first
        self._guests: dict[Connection, None] = {}

    def enter(self, connection: Connection) -> Connection | None:
        """One more. Returns who has to go for it, if anybody: perhaps itself."""
        self._strangers[connection] = None
        if len(self._strangers) + len(self._guests) + len(self._listening) <= self._most:
            return None
        group = self._guests if len(self._guests) >= len(self._strangers) else self._strangers
        goes = next(iter(group))
        self.listens(goes)
        return goes

    def listens(self, connection: Connection) -> None:
        """It has sent a whole request, and stays until that is answered."""
        if connection in self._strangers or connection in self._guests:
            self.leave(connection)
            self._listening.add(connection)

    def may_speak(self, connection: Connection) -> None:
        """It has its answer and may send another request."""
        if connection in self._listening:
            self._listening.remove(connection)
            self._guests[connection] = None

    def is_deaf(self, connection: Connection) -> None:
        """It does not take its answer."""
        if connection in self._listening:
            self._listening.remove(connection)
            self._strangers[connection] = None

    def leave(self, connection: Connection) -> None:
        """It is closed."""
        self._listening.discard(connection)
        self._strangers.pop(connection, None)
        self._guests.pop(connection, None)


class Unsent(Generic[Connection]):
    """What waits in memory to be sent to those who do not read: at most so many bytes. No I/O, as `Crowd`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._sizes: dict[Connection, int] = {}  # the one that has not read for longest comes first

    def waits(self, connection: Connection, size: int) -> list[Connection]:
        """So many bytes wait for it now. Returns who has to go for them: perhaps itself."""
        self._sizes[connection] = size
        go = []
        excess = sum(self._sizes.values()) - self._most
        while excess > 0:
            goes = next(iter(self._sizes))
            excess -= self._sizes.pop(goes)
            go.append(goes)
        return go

    def flows(self, connection: Connection) -> None:
        """It reads, or is closed."""
        self._sizes.pop(connection, None)


def most_connections(calls: int) -> int:
    """How many connections this process has descriptors for beside so many calls; it lets itself have all it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft < wanted:
        with suppress(ValueError, OSError):  # macOS says that it allows more than it does
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(_FEWEST, soft - _OTHERS - _EACH * calls)
