"""An agent that never waits for what it starts: real zombies, and real processes in D state."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_CODE = """
import os, sys, time
name, zombies, stuck, fifo = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
open("/proc/self/comm", "w").write(name)
for _ in range(zombies):
    if os.fork() == 0:
        os._exit(0)
for _ in range(stuck):
    if os.fork() == 0:  # its child opens the FIFO between vfork and exec, which it waits for in D state
        os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, fifo, os.O_RDONLY, 0)])
kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(int(sys.argv[5]))]
print("ready", flush=True)
time.sleep(1000)
"""


@contextlib.contextmanager
def naive_agent(folder: Path, name: str, *, zombies: int = 0, stuck: int = 0, descriptors: int = 0) -> Iterator[int]:
    """Let it live for a while; yields its pid. ``name`` is its command's, 15 characters at most."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    command = [sys.executable, "-c", _CODE, name, str(zombies), str(stuck), str(fifo), str(descriptors)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as agent:
        assert agent.stdout is not None
        try:
            assert agent.stdout.readline() == b"ready\n"
            yield agent.pid
        finally:
            os.killpg(agent.pid, signal.SIGKILL)
            fifo.unlink()
