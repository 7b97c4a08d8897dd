"""The runner: one spare, one call. Decides the claim, owns signals and reaping; transports only carry bytes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from executor_runner import linux
from executor_runner.call import CallRun
from executor_runner.cgroup import MemoryGroup
from executor_runner.journal import Journal
from executor_runner.loop import Loop
from executor_runner.place import Place, child_environment
from executor_runner.process import DescendantTree, GroupTree, NamespaceTree, Reaper, Tree
from executor_runner.protocol.frames import encode_json
from executor_runner.protocol.shapes import Call, Cause, Limits, PythonCode
from executor_runner.signals import SignalSource
from executor_runner.spare import fork_spare
from executor_runner.workspace import Workspace

_REHEARSAL = Call(
    execution_id="",
    argv=None,
    python=PythonCode(code="", function=None, args=[], kwargs={}),
    script=None,
    stdin="",
    env={},
    files={},
    artifacts=[],
    timeout_seconds=1.0,
    grace_seconds=1.0,
    limits=Limits(
        memory_bytes=None,
        storage_bytes=None,
        processes=1,
        open_files=1,
        output_bytes=1,
        output_kill_bytes=None,
        artifact_bytes=1,
        value_bytes=1,
    ),
    reuse=None,
)


class AlreadyClaimedError(Exception):
    """This sandbox has had its call."""


class Runner:
    """Waits for its one call, runs it, and tells ``on_idle_end`` when it was told to leave before that."""

    def __init__(self, loop: Loop, root: Path, environ: Mapping[str, str], group: MemoryGroup | None) -> None:
        self._loop = loop
        self._signals = SignalSource()
        self._reaper = Reaper()
        preload = filter(None, environ.get("EXECUTOR_PRELOAD", "").split(","))
        self._spare = fork_spare(preload)
        self.workspace = Workspace(root)
        with contextlib.suppress(OSError):  # the call that finds no folder will say so
            self.workspace.create()
        self._place = Place(self.workspace, _tree(self._spare.pid), self._reaper, group, child_environment(environ))
        self._run: CallRun | None = None
        self._refusing = False
        self.execution_id = ""
        """Whose call it has; empty before there is one."""
        self.on_idle_end: Callable[[], None] = loop.stop
        loop.watch(self._signals.fd, read=self._on_signals)
        self._rehearse()

    @property
    def journal(self) -> Journal | None:
        """The call's journal once there is a call."""
        return None if self._run is None else self._run.journal

    def claim(self, body: bytes, attach: Callable[[Journal], None]) -> None:
        """Take the first call; ``attach`` gets its journal before anything is written to it.

        Raises `AlreadyClaimedError` for any other, and ``ValueError`` for a body that is no call, which claims nothing.
        """
        if self._run is not None or self._refusing:
            raise AlreadyClaimedError
        call = _parse(body)
        self.execution_id = call["execution_id"]
        self._run = CallRun(self._loop, call, self._spare, self._place)
        attach(self._run.journal)
        self._run.begin()

    def refuse_calls(self) -> None:
        """Take none any more: this sandbox is retired."""
        self._refusing = True

    def cancel(self) -> None:
        """End the running call at the client's wish."""
        if self._run is not None:
            self._run.end(Cause.CANCELLED, "cancelled")

    def leave(self) -> None:
        """End at the wish of whoever runs the sandbox: at once, but a running call with its report."""
        if self._run is None or self._run.journal.complete:
            self.on_idle_end()
        else:
            self._run.end(Cause.TERMINATED, "the sandbox was told to end from outside")

    def kill_everything(self) -> None:
        """Kill all processes but our own, without a report."""
        self._place.tree.kill_all()

    def _on_signals(self) -> None:
        for number, sender in self._signals.read():
            if number != signal.SIGCHLD and not self._from_inside(sender):
                self.leave()
        self._reaper.reap()
        if self._run is not None:
            self._run.child_may_have_ended()
        elif self._spare.pid in self._reaper.endings:
            self.on_idle_end()  # a runner without its spare can serve nobody

    def _rehearse(self) -> None:
        """Make a call that never begins: what a fork touches first costs it a copied page, better now than then."""
        CallRun(self._loop, cast("Call", json.loads(encode_json(_REHEARSAL))), self._spare, self._place)

    def _from_inside(self, sender: int) -> bool:
        """As PID 1 we see senders of our own namespace only: the call may not end its runner. Others come as 0."""
        return sender != 0 and (os.getpid() == 1 or sender in self._place.tree.pids())


def _parse(body: bytes) -> Call:
    """Raises ``ValueError`` for what is no call."""
    try:
        call = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    for value, keys in ((call, Call.__required_keys__), (_item(call, "limits"), Limits.__required_keys__)):
        if not isinstance(value, dict) or keys - value.keys():
            raise ValueError(f"an object with {', '.join(sorted(keys))} is needed")
    return cast("Call", call)


def _item(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None


def _tree(spare_pid: int) -> Tree:
    if os.getpid() == 1:
        return NamespaceTree()
    return DescendantTree() if linux.become_subreaper() else GroupTree(spare_pid)
