"""What the ending of a call means to a shell. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from executor_api.cli.failures import ExitCode

SHELL_SIGNAL_BASE = 128


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended, wherever it ran; values as in the API's answer."""

    status: str
    reason: str | None
    message: str
    exit_code: int | None
    signal: str | None


def exit_code(ending: Ending) -> int:
    """The call's own exit code, 128 + its signal, or one that says why it has neither."""
    if ending.status == "succeeded":
        return 0
    if ending.reason in {"exit_code", "exception"} and ending.exit_code is not None:
        return ending.exit_code
    if ending.reason == "signal" and ending.signal is not None:
        return SHELL_SIGNAL_BASE + _signal_number(ending.signal)
    return ExitCode.TIMEOUT if ending.reason == "timeout" else ExitCode.FAILED


def explanation(ending: Ending) -> str | None:
    """A sentence for endings that the call's own output does not explain."""
    if ending.reason in {None, "exit_code", "exception"}:
        return None
    return f"{ending.reason}: {ending.message}"


def _signal_number(name: str) -> int:
    try:
        return signal.Signals[name].value
    except KeyError:
        return int(name.rpartition(" ")[2])  # "signal 34": a real-time signal
