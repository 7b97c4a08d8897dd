"""Signals as readable events, with their sender where the kernel tells it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

from executor_runner import linux

WATCHED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)


def reset_signals() -> None:
    """Undo what we inherited: whoever started us may have had signals ignored, and a child must not inherit that."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


class SignalSource:
    """Turns SIGCHLD, SIGTERM and SIGINT into bytes on ``fd``."""

    def __init__(self) -> None:
        if linux.ON_LINUX:
            self.fd = linux.open_signalfd(WATCHED)
        else:
            self.fd, write_end = os.pipe()
            for end in (self.fd, write_end):
                os.set_blocking(end, False)
            signal.set_wakeup_fd(write_end)
            for number in WATCHED:
                signal.signal(number, lambda *_: None)

    def read(self) -> Iterator[tuple[int, int]]:
        """Yield (signal, sender's pid). Pid 0: from outside our PID namespace, or not known."""
        if linux.ON_LINUX:
            yield from linux.read_signalfd(self.fd)
            return
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self.fd, 4096):
                yield number, 0
