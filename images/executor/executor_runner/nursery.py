"""``python -m executor_runner.nursery FD SETTINGS``: makes local sandboxes by fork, so that each costs milliseconds.

The service sends `MAKE` over the socket FD; the answer is one JSON line with the sandbox's socket attached, or why
there is none. When the service's end closes, for whatever reason, every sandbox is killed and we end.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Collection, Mapping
from itertools import count
from pathlib import Path
from typing import NoReturn, TypedDict

from executor_runner import linux
from executor_runner.census import Process
from executor_runner.isolation import Isolation, enter, fork_isolated, settle_in, strongest
from executor_runner.loop import Loop
from executor_runner.preload import preload
from executor_runner.process import DescendantTree, NamespaceTree, Reaper, Tree
from executor_runner.protocol.local import MAKE
from executor_runner.removal import remove_tree
from executor_runner.runner import Runner
from executor_runner.session import Session
from executor_runner.signals import SignalSource, reset_signals
from executor_runner.workspace import Workspace

_MESSAGE = 64 * 1024


class Settings(TypedDict):
    """What all sandboxes of this nursery share."""

    root: str  # the folder of their folders
    network: str  # "none": take it away if the kernel permits; "open"
    namespaces: bool  # use them where the kernel permits it
    preload: list[str]


class Nursery:
    """Owns the sandboxes of one service process."""

    def __init__(self, control: socket.socket, root: Path, isolation: Isolation) -> None:
        self._loop = Loop()
        self._control = control
        self._root = root
        self._isolation = isolation
        self._environ = dict(os.environ)  # once: each sandbox would have to decode it
        self._sandboxes: dict[int, Workspace | None] = {}  # None: it only removes the folder of one that ended
        self._names = count()
        self._reaper = Reaper()

    def run(self) -> None:
        """Serve until the service is gone, then leave nothing behind."""
        linux.become_subreaper()
        signals = SignalSource()
        self._loop.watch(signals.fd, read=lambda: self._on_signals(signals))
        self._loop.watch(self._control.fileno(), read=self._on_request)
        in_user_namespace = self._isolation.in_namespaces and os.geteuid() != 0
        self._send({"isolation": self._isolation + (" in a user namespace" if in_user_namespace else "")})
        self._loop.run()
        self._end_everything()

    def _on_request(self) -> None:
        try:
            message = self._control.recv(_MESSAGE)
        except OSError:
            message = b""
        if not message:
            self._loop.stop()
        for _ in range(message.count(MAKE)):
            self._make()

    def _make(self) -> None:
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            self._send({"error": error.strerror or str(error)})
            return
        root = self._root / str(next(self._names))
        with ours, theirs:
            try:
                pid = fork_isolated(self._isolation)
            except OSError as error:
                self._send({"error": error.strerror or str(error)})
                return
            if pid == 0:
                ours.close()
                self._control.close()
                _be_sandbox(theirs, root, self._environ, self._isolation)
            self._sandboxes[pid] = Workspace(root)
            self._send({}, ours)

    def _send(self, message: dict[str, object], attached: socket.socket | None = None) -> None:
        """The service may be gone; then the loop ends anyway."""
        descriptors = [] if attached is None else [attached.fileno()]
        with contextlib.suppress(OSError):
            socket.send_fds(self._control, [json.dumps(message).encode() + b"\n"], descriptors)

    def _on_signals(self, signals: SignalSource) -> None:
        if any(number != signal.SIGCHLD for number, _ in signals.read()):
            self._loop.stop()
        self._reap()

    def _reap(self) -> None:
        self._kill_stopped()
        self._reaper.reap()
        endings, self._reaper.endings = self._reaper.endings, {}
        for pid in endings:
            workspace = self._sandboxes.pop(pid, None)
            if workspace is not None and not removed_at_once(workspace):
                self._remove_aside(workspace)
        if not self._isolation.in_namespaces and any(ending.exit_code != 0 for ending in endings.values()):
            StrayTree(self._sandboxes).kill_all()  # of a runner that was killed, or of such a stray

    def _kill_stopped(self) -> None:
        """A runner that its own call has stopped keeps no time and hears nobody: it is as good as lost."""
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOHANG)) is not None:
                if found.si_pid in self._sandboxes:
                    os.kill(found.si_pid, signal.SIGKILL)

    def _remove_aside(self, workspace: Workspace) -> None:
        """A call may leave a million files; the next sandbox is not to wait for that."""
        try:
            pid = os.fork()
        except OSError:
            return  # no process to be had: goes with our own folder
        if pid == 0:
            try:
                workspace.remove()
            finally:
                os._exit(0)
        self._sandboxes[pid] = None

    def _end_everything(self) -> None:
        """Killing PID 1 of a namespace kills all in it; without namespaces we adopt what they leave, and kill that."""
        tree: Tree = NamespaceTree(self._reaper) if self._isolation.in_namespaces else DescendantTree()
        self._reap()
        while not self._reaper.none_left:
            tree.kill_all()
            signal.sigtimedwait([signal.SIGCHLD], 0.05)
            self._reap()
        remove_tree(self._root)


class StrayTree(DescendantTree):
    """What sandboxes whose runner is gone have left with us."""

    def __init__(self, sandboxes: Collection[int]) -> None:
        self._sandboxes = sandboxes

    def processes(self) -> list[Process]:
        """Our descendants that belong to no sandbox."""
        everyone = super().processes()
        parents = {process.pid: process.parent for process in everyone}
        return [process for process in everyone if not self._belongs(process.pid, parents)]

    def children(self) -> set[int]:
        """Our children that are no sandboxes."""
        return super().children() - set(self._sandboxes)

    def _belongs(self, pid: int | None, parents: dict[int, int]) -> bool:
        while pid is not None and pid not in self._sandboxes:
            pid = parents.get(pid)
        return pid is not None


def removed_at_once(workspace: Workspace) -> bool:
    """Delete a folder in which the call left nothing but its source. False if there is more, which may take long."""
    try:
        for folder in (workspace.work, workspace.home, workspace.tmp):
            folder.rmdir()
        for source in workspace.root.iterdir():
            source.unlink()
        workspace.root.rmdir()
    except FileNotFoundError:
        return not workspace.root.exists()
    except OSError:
        return False
    return True


def _be_sandbox(sock: socket.socket, root: Path, environ: Mapping[str, str], isolation: Isolation) -> NoReturn:
    """Turn this fork into the runner of one sandbox."""
    exit_code = 1  # tells the nursery to look for what we may have left
    try:
        # Without a namespace that falls with us, the runner must live on to end its processes if we are killed.
        linux.die_with_parent(signal.SIGKILL if isolation.in_namespaces else signal.SIGTERM)
        linux.set_dumpable(dumpable=False)
        settle_in(isolation)
        loop = Loop()
        runner = Runner(loop, root, environ, None)
        Session(loop, runner, sock)
        linux.give_way(giving=False)
        loop.run()
        sock.close()
        runner.kill_everything()
        exit_code = 0
    except Exception:  # noqa: BLE001 - the one supervisor of a sandbox: a mistake of ours ends this call, and is seen
        traceback.print_exc()
    finally:
        os._exit(exit_code)


def main() -> int:
    """Serve the control socket whose descriptor is the first argument, as the second says."""
    settings: Settings = json.loads(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # of calls neither: who makes spares inherits it to them
    reset_signals()
    isolation = strongest(network=settings["network"] == "none", namespaces=settings["namespaces"])
    enter(isolation)
    preload(settings["preload"])
    linux.give_way(giving=True)  # making stock must not hold up the call just served
    linux.forbid_privileges()
    Nursery(socket.socket(fileno=int(sys.argv[1])), Path(settings["root"]), isolation).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
