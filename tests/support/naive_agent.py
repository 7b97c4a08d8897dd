"""An agent that never waits for what it starts: real zombies, and real processes in D state."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

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
    """Let it live for a while; yields its pid once all is as told. ``name``: its command's, 15 characters at most."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    command = [sys.executable, "-c", _CODE, name, str(zombies), str(stuck), str(fifo), str(descriptors)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as agent:
        assert agent.stdout is not None
        try:
            assert agent.stdout.readline() == b"ready\n"
            _wait_for({psutil.STATUS_ZOMBIE: zombies, psutil.STATUS_DISK_SLEEP: stuck}, agent.pid)
            yield agent.pid
        finally:
            os.killpg(agent.pid, signal.SIGKILL)
            fifo.unlink()


def _wait_for(states: dict[str, int], agent: int) -> None:
    """Until its children have ended or sleep, and those of them that wait for a child to open the FIFO."""
    expected = Counter({**states, psutil.STATUS_SLEEPING: states[psutil.STATUS_DISK_SLEEP]})
    deadline = time.monotonic() + 60
    while Counter(child.status() for child in psutil.Process(agent).children(recursive=True)) != expected:
        assert time.monotonic() < deadline
        time.sleep(0.01)
