"""Real programs that are sick in one way each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

ZOMBIES = """
import os, signal, sys
def die():
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
for _ in range(int(sys.argv[1])):
    die()
"""
"""Makes so many and collects none; more code decides how it takes SIGCHLD from then on."""

READY = "\nprint('ready', flush=True)\n"
SLEEP = READY + "import time\ntime.sleep(600)\n"

DEAF = ZOMBIES + SLEEP
IGNORING = ZOMBIES + "signal.signal(signal.SIGCHLD, signal.SIG_IGN)" + SLEEP
BLOCKING = ZOMBIES + "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})" + SLEEP
ONE_A_SIGNAL = (
    ZOMBIES
    + "signal.signal(signal.SIGCHLD, lambda *_: os.waitpid(-1, os.WNOHANG))"
    + READY
    + "while True:\n    signal.pause()\n"
)
UNMOVED_BY_TERM = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)" + SLEEP

HALF_DEAD = (
    "import ctypes, os, threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()"
    + READY
    + "ctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[os.uname().machine], 0)\n"
)
"""Its first thread ends by itself, and another lives on: a zombie that nobody can collect."""

CLOSED_BY_PEER = (
    """
import socket, sys
family, address = (socket.AF_INET6, '::1') if sys.argv[2] == '6' else (socket.AF_INET, '127.0.0.1')
server = socket.create_server((address, 0), family=family)
kept = []
for _ in range(int(sys.argv[1])):
    kept.append(socket.create_connection(server.getsockname()[:2]))
    server.accept()[0].close()
for end in kept:
    end.recv(1)
"""
    + SLEEP
)
"""Keeps so many sockets that the other end has closed, and one that listens."""


@contextmanager
def running(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start one of these and wait until it is sick; everything of it is gone afterwards."""
    command = [sys.executable, "-S", "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
