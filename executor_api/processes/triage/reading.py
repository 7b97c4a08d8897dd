"""Reads files of /proc that may never answer.

The kernel answers ``cmdline``, ``environ`` and ``maps`` under a lock that a process in D state may hold for ever.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from executor_api.processes.process_table import STUCK

T = TypeVar("T")

_MOST = 1 << 16
_HARMLESS = frozenset({"status", "wchan", "sched", "schedstat", "uptime"})
"""The kernel answers these without a lock that anybody may hold: no thread is needed for them."""
_SHORTEST = 0.02


class UnreadableError(Exception):
    """A file could not be read; the text says why."""


class PatientReader:
    """Waits so many seconds for an answer and ``in_all`` for all of them, of which so many may hang, a thread each."""

    def __init__(self, seconds: float = 1.0, in_all: float = 15.0, most_hanging: int = 8) -> None:
        self._late: list[threading.Thread] = []
        self._seconds = seconds
        self._left = in_all
        self._most_hanging = most_hanging

    @property
    def hanging(self) -> int:
        """How many reads have not answered to this day."""
        self._late = [thread for thread in self._late if thread.is_alive()]
        return len(self._late)

    def read(self, folder: str, name: str) -> bytes:
        """The first 64 KiB of a process's file. Raises ``UnreadableError``."""
        return self._ask(folder, name, lambda: _read(f"{folder}/{name}"))

    def link(self, folder: str, name: str) -> str:
        """Where a process's link leads. Raises ``UnreadableError``."""
        return self._ask(folder, name, lambda: os.readlink(f"{folder}/{name}"))  # noqa: PTH115 - as text, fast

    def _ask(self, folder: str, name: str, question: Callable[[], T]) -> T:
        answers: list[T] = []
        errors: list[OSError] = []
        if name in _HARMLESS:
            _answer(question, answers, errors)
        else:
            self._ask_aside(folder, lambda: _answer(question, answers, errors))
        if answers:
            return answers[0]
        if errors:
            raise UnreadableError(errors[0].strerror or str(errors[0]))
        raise UnreadableError("it did not answer in time")

    def _ask_aside(self, folder: str, ask: Callable[[], None]) -> None:
        if self.hanging >= self._most_hanging:
            raise UnreadableError("too many reads hang already")
        thread = threading.Thread(target=ask, daemon=True)
        began = time.monotonic()
        try:
            thread.start()
        except RuntimeError:  # no thread can be started where no process can
            if not _is_calm(folder):
                raise UnreadableError("it might hang, and no thread can be started to wait for it") from None
            ask()
            return
        thread.join(max(_SHORTEST, min(self._seconds, self._left)))
        self._left -= time.monotonic() - began
        if thread.is_alive():
            self._late.append(thread)


def _answer(question: Callable[[], T], answers: list[T], errors: list[OSError]) -> None:
    try:
        answers.append(question())
    except OSError as error:
        errors.append(error)


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _all_of(descriptor)
    finally:
        os.close(descriptor)


def _all_of(descriptor: int) -> bytes:
    """Some files of /proc come a page at a time."""
    found = b""
    while len(found) < _MOST and (piece := os.read(descriptor, _MOST - len(found))):
        found += piece
    return found


def _is_calm(folder: str) -> bool:
    """Whether none of a process's threads is in D state, so that none holds a lock for long."""
    with suppress(OSError):
        threads = os.listdir(f"{folder}/task")  # noqa: PTH208 - as text
        states = [_read(f"{folder}/task/{thread}/stat").rpartition(b") ")[2] for thread in threads]
        return not any(state.startswith(STUCK.encode()) for state in states)
    return False
