"""The terminal of ``executor-api run``: a call's bytes go through untouched, progress shows only to people."""

from __future__ import annotations

import sys
from typing import BinaryIO

import click

from executor_api.cli.failures import tell

_ERASE_LINE = "\r\033[K"


class Terminal:
    """Standard output and error. Raises ``BrokenPipeError`` once nobody reads any more."""

    def __init__(self) -> None:
        self._streams: dict[int, BinaryIO] = {1: sys.stdout.buffer, 2: sys.stderr.buffer}
        self._interactive = sys.stderr.isatty()
        self._progress_shows = False

    def output(self, stream: int, data: bytes) -> None:
        """Pass on what the call printed, at once."""
        self._erase_progress()
        self._streams[stream].write(data)
        self._streams[stream].flush()

    def progress(self, text: str) -> None:
        """Show what is being waited for; the next output or sentence takes its place."""
        if self._interactive:
            click.echo(f"{_ERASE_LINE}{text} ...", err=True, nl=False, color=True)
            self._progress_shows = True

    def tell(self, sentence: str) -> None:
        """Say something of our own."""
        self._erase_progress()
        tell(sentence)

    def _erase_progress(self) -> None:
        if self._progress_shows:
            click.echo(_ERASE_LINE, err=True, nl=False, color=True)
            self._progress_shows = False
