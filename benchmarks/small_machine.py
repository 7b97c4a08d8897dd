"""A machine of its own in all that processes show: a PID namespace, whose init collects orphans.

Whatever starts in it ends with it, and it ends with whoever made it, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from executor_api.processes.cgroups import CGROUPS, pids_root

_INIT = """
import os, signal, sys
def collect(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, collect)
print("ready", flush=True)
sys.stdin.read()
"""
_AS_ROOT = () if os.geteuid() == 0 else ("--user", "--map-root-user")
_LIMITED = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
_SECONDS = 10.0


class SmallMachine:
    """Where processes are started. ``limited``: the folder of a control group for those that ask for it."""

    def __init__(self, init: int, limited: Path | None) -> None:
        self._enter = ["nsenter", f"--target={init}", "--pid", "--mount"]
        if _AS_ROOT:
            self._enter += ["--user", "--preserve-credentials"]
        self.limited = limited

    def start(self, *command: str, limited: bool = False) -> subprocess.Popen[str]:
        """Start a program that is spoken to by pipes; its parent is outside, and collects it."""
        words = [*self._enter, "--", *command]
        if limited and self.limited is not None:
            words = ["sh", "-c", _LIMITED, str(self.limited), *words]
        return subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is the benchmark's business
        )

    def run(self, *command: str, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a program to its end. Its errors go where ours go."""
        return subprocess.run(
            [*self._enter, "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=seconds,
            check=False,
            start_new_session=True,
        )


@contextlib.contextmanager
def small_machine(tasks: int) -> Iterator[SmallMachine]:
    """Make one; where root may make control groups, one that holds at most so many tasks.

    Raises ``SystemExit`` where the kernel makes no namespaces for us.
    """
    command = ["unshare", *_AS_ROOT, "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-S", "-c"]
    with (
        _limited_group(tasks) as limited,
        subprocess.Popen(
            [*command, _INIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as outside,
    ):
        assert outside.stdin is not None  # noqa: S101 - pipes were asked for
        assert outside.stdout is not None  # noqa: S101 - the same
        try:
            if outside.stdout.readline() != "ready\n":
                raise SystemExit("this kernel lets us make no PID namespace: run it as root")
            children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children")
            yield SmallMachine(int(children.read_text().split()[0]), limited)
        finally:
            outside.stdin.close()  # its init ends, and the kernel ends all that is in there


@contextlib.contextmanager
def _limited_group(tasks: int) -> Iterator[Path | None]:
    """None where control groups can't be made, as by another user than root."""
    folder = Path(pids_root(CGROUPS), f"executor-incident-{os.getpid()}")
    try:
        folder.mkdir()
        (folder / "pids.max").write_text(str(tasks))
    except OSError:
        with contextlib.suppress(OSError):
            folder.rmdir()
        yield None
        return
    try:
        yield folder
    finally:
        deadline = time.monotonic() + _SECONDS
        while folder.exists():
            with contextlib.suppress(OSError):  # the last of its tasks may be ending
                folder.rmdir()
            if time.monotonic() > deadline:
                print(f"{folder} could not be removed: {(folder / 'cgroup.procs').read_text().split()}")
                break
            time.sleep(0.05)
