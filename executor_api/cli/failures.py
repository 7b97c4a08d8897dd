"""How a command fails: one sentence a line on standard error, and an exit code that scripts can tell apart."""

from __future__ import annotations

from enum import IntEnum
from typing import IO, Any

import click


class ExitCode(IntEnum):
    """Exit codes that are not the call's own."""

    REFUSED = 2  # wrong usage or configuration, or a request that the service refuses
    UNAVAILABLE = 3  # the service can't be reached, or can't take work now
    TIMEOUT = 124  # the call ran out of time, as timeout(1) says it
    FAILED = 125  # the call failed for a reason that is not its own doing
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class CommandFailure(click.ClickException):
    """Ends the command with sentences, a line each."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print each sentence with our name before it."""
        for sentence in self.message.splitlines():
            tell(sentence, file)


class Refused(CommandFailure):
    """Something has to be changed by whoever asked."""

    exit_code = ExitCode.REFUSED


class Unavailable(CommandFailure):
    """The same may work later."""

    exit_code = ExitCode.UNAVAILABLE


def tell(sentence: str, file: IO[Any] | None = None) -> None:
    """Say something beside the output: on standard error, with our name."""
    click.echo(f"executor-api: {sentence}", file=file, err=True)
