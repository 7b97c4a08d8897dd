"""Runs a command, then ends whatever it left, and tells on the last line of standard output how many that were.

python subreaper.py COMMAND...
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

import psutil

from executor_runner.linux import become_subreaper

SECONDS = 100.0


def end_descendants() -> int:
    """Kill and collect all below this process, which must be a subreaper; how many there were."""
    found: set[int] = set()
    while below := psutil.Process().children(recursive=True):
        found.update(process.pid for process in below)
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)
    return len(found)


def main() -> int:
    """Exit like the command."""
    become_subreaper()
    code = 1
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = subprocess.Popen(sys.argv[1:]).wait(SECONDS)
    sys.stdout.write(f"{end_descendants()}\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
