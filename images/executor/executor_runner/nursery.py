"""``python -m executor_runner.nursery FD``: makes local sandboxes by fork, so that each costs milliseconds.

The service asks over the socket FD with one JSON line, ``{"make": NAME}``; the answer is one message with the
sandbox's socket attached. When the service's end closes, for whatever reason, every sandbox is killed and we end.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

from executor_runner import linux
from executor_runner.isolation import Isolation, enter, fork_isolated, settle_in, strongest
from executor_runner.loop import Loop
from executor_runner.process import DescendantTree, NamespaceTree, Reaper, Tree
from executor_runner.runner import Runner
from executor_runner.session import Session
from executor_runner.signals import SignalSource

_MESSAGE = 64 * 1024


class Nursery:
    """Owns the sandboxes of one service process."""

    def __init__(self, control: socket.socket, root: Path, isolation: Isolation) -> None:
        self._loop = Loop()
        self._control = control
        self._root = root
        self._isolation = isolation
        self._tree: Tree = NamespaceTree() if os.getpid() == 1 else DescendantTree()
        self._sandboxes: dict[int, Path] = {}
        self._reaper = Reaper()

    def run(self) -> None:
        """Serve until the service is gone, then leave nothing behind."""
        linux.become_subreaper()
        signals = SignalSource()
        self._loop.watch(signals.fd, read=lambda: self._on_signals(signals))
        self._loop.watch(self._control.fileno(), read=self._on_request)
        self._send({"isolation": self._isolation, "user_namespace": os.getpid() == 1 and os.geteuid() != 0})
        self._loop.run()
        self._end_everything()

    def _on_request(self) -> None:
        try:
            message = self._control.recv(_MESSAGE)
        except OSError:
            message = b""
        if not message:
            self._loop.stop()
            return
        self._make(json.loads(message)["make"])

    def _make(self, name: str) -> None:
        ours, theirs = socket.socketpair()
        root = self._root / name
        with ours, theirs:
            try:
                pid = fork_isolated(self._isolation)
            except OSError as error:
                self._send({"name": name, "error": error.strerror or str(error)})
                return
            if pid == 0:
                ours.close()
                self._control.close()
                _be_sandbox(theirs, root, self._isolation)
            self._sandboxes[pid] = root
            self._send({"name": name, "pid": pid}, ours)

    def _send(self, message: dict[str, object], attached: socket.socket | None = None) -> None:
        """The service may be gone; then the loop ends anyway."""
        descriptors = [] if attached is None else [attached.fileno()]
        with contextlib.suppress(OSError):
            socket.send_fds(self._control, [json.dumps(message).encode()], descriptors)

    def _on_signals(self, signals: SignalSource) -> None:
        if any(number != signal.SIGCHLD for number, _ in signals.read()):
            self._loop.stop()
        self._reap()

    def _reap(self) -> None:
        self._reaper.reap()
        for pid in list(self._reaper.endings):
            del self._reaper.endings[pid]
            root = self._sandboxes.pop(pid, None)
            if root is not None:
                shutil.rmtree(root, ignore_errors=True)

    def _end_everything(self) -> None:
        """Killing PID 1 of a namespace kills all in it; without namespaces we adopt what they leave, and kill that."""
        self._reap()
        while not self._reaper.none_left:
            self._tree.kill_all()
            signal.sigtimedwait([signal.SIGCHLD], 0.05)
            self._reap()
        shutil.rmtree(self._root, ignore_errors=True)


def _be_sandbox(sock: socket.socket, root: Path, isolation: Isolation) -> NoReturn:
    """Turn this fork into the runner of one sandbox."""
    try:
        linux.die_with_parent()
        linux.set_dumpable(dumpable=False)
        settle_in(isolation)
        loop = Loop()
        runner = Runner(loop, root, os.environ, None)
        Session(loop, runner, sock)
        loop.run()
        sock.close()
        runner.kill_everything()
    finally:
        os._exit(0)


def main() -> int:
    """Serve the control socket whose descriptor, folder and network are the arguments."""
    descriptor, root, network, *preload = sys.argv[1:]
    for name in preload:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    importlib.import_module("executor_runner.python_child")  # so that no sandbox has to
    gc.freeze()
    isolation = strongest(network=network == "none")
    enter(isolation)
    Nursery(socket.socket(fileno=int(descriptor)), Path(root), isolation).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
