"""The terminal of ``executor-api run``: a call's bytes go through untouched, progress shows only to people."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from contextlib import suppress
from typing import BinaryIO

import click

from executor_api.cli.failures import tell

_ERASE_LINE = "\r\033[K"


class Terminal:
    """Standard output and error."""

    def __init__(self) -> None:
        self.abandoned = False
        self._streams: dict[int, BinaryIO] = {1: sys.stdout.buffer, 2: sys.stderr.buffer}
        self._interactive = sys.stderr.isatty()
        self._progress_shows = False

    def interrupt_when_abandoned(self) -> None:
        """From now on raise ``KeyboardInterrupt`` in the main thread when nobody reads standard output any more.

        Writing would tell too, but a call may print nothing for hours.
        """
        threading.Thread(target=self._watch, name="reader-watch", daemon=True).start()

    def output(self, stream: int, data: bytes) -> None:
        """Pass on what the call printed, at once."""
        self._erase_progress()
        with suppress(BrokenPipeError):  # the watch has seen it too
            self._streams[stream].write(data)
            self._streams[stream].flush()

    def close(self) -> None:
        """Drop what nobody reads, so that it does not fail again at exit."""
        if self.abandoned:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in self._streams.values():
                os.dup2(nowhere, stream.fileno())

    def progress(self, text: str) -> None:
        """Show what is being waited for; the next output or sentence takes its place."""
        if self._interactive:
            click.echo(f"{_ERASE_LINE}{text} ...", err=True, nl=False, color=True)
            self._progress_shows = True

    def tell(self, sentence: str) -> None:
        """Say something of our own."""
        self._erase_progress()
        tell(sentence)

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._streams[1], 0)
        poll.poll()  # asked for no event, so it returns for an error or a hang-up only
        self.abandoned = True
        os.kill(os.getpid(), signal.SIGINT)

    def _erase_progress(self) -> None:
        if self._progress_shows:
            click.echo(_ERASE_LINE, err=True, nl=False, color=True)
            self._progress_shows = False
