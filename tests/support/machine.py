"""What this machine shows of processes, and how to be nobody on it."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

NOBODY = Path(__file__).with_name("as_nobody.py")

LIBC_SIGNALS = 0b11 << 31
"""Signals 32 and 33 in a mask: the C library keeps them for itself, so nobody can put them back to their default."""


class Marked:
    """Processes that bear a word nobody else uses."""

    def __init__(self) -> None:
        self.word = f"marked-{secrets.token_hex(8)}"

    def sleeper(self) -> str:
        """A shell command that sleeps for long and bears the word."""
        return f"sh -c 'sleep 600; : {self.word}'"

    def pids(self) -> list[int]:
        """Who bears it and is no zombie; a zombie's command line is empty."""
        word = self.word.encode()
        return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if word in _command_line(folder)]


def _command_line(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""


def eventually(holds: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something only the machine can show."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def run_as_nobody(script: str) -> str:
    """Run a script as a user without privileges, which the one who runs the tests may be already."""
    command = [sys.executable, str(NOBODY)]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def nurseries() -> list[psutil.Process]:
    """Those of this process, the dead ones left out."""
    return [child for child in psutil.Process().children() if "executor_runner.nursery" in arguments(child)]


def arguments(process: psutil.Process) -> list[str]:
    """None if it is dead."""
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie too
        return []


def zombies() -> list[psutil.Process]:
    """Children of this process that nobody has waited for."""
    return [child for child in psutil.Process().children() if _is_zombie(child)]


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # waited for a moment ago
        return False
