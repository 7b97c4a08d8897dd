"""The runner: one spare, one call; with `Reuse`, again and again.

Decides the claim, owns signals and reaping; transports only carry bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from executor_runner import linux
from executor_runner.call import CallRun
from executor_runner.cgroup import MemoryGroup
from executor_runner.gpu import own_gpus
from executor_runner.journal import Journal
from executor_runner.loop import Loop, Timer
from executor_runner.place import Place, child_environment
from executor_runner.process import DescendantTree, GroupTree, NamespaceTree, Reaper, Tree, own_children
from executor_runner.protocol.frames import FrameKind
from executor_runner.protocol.shapes import Call, Cause, Limits, Reuse
from executor_runner.renewal import DoubtError, Renewal
from executor_runner.signals import SignalSource
from executor_runner.spare import Spare, fork_spare, make_spare
from executor_runner.workspace import Workspace
from executor_runner.zygote import Zygote


class AlreadyClaimedError(Exception):
    """This sandbox has a call, or has had one that this one must not follow, or is retired."""


class Runner:
    """Waits for a call and runs it.

    It tells ``on_idle_end`` when it must leave with no call to report, and ``on_retired`` when it would stay for
    another call but must not. ``scratch``: folders beside ``root`` that calls can write to, and nobody else.
    ``secretive``: what the runner will hear is not for its spares to know.
    """

    def __init__(
        self,
        loop: Loop,
        root: Path,
        environ: Mapping[str, str],
        group: MemoryGroup | None,
        scratch: Sequence[Path] = (),
        *,
        secretive: bool = False,
    ) -> None:
        self._loop = loop
        self._signals = SignalSource()
        self._reaper = Reaper()
        self.workspace = Workspace(root)
        self._env = child_environment(environ, self.workspace)
        gpus = own_gpus(loop, environ)
        self._zygote = self._make_zygote() if secretive else None
        self._spare = self._fork_spare()
        with contextlib.suppress(OSError):  # the call that finds no folder will say so
            self.workspace.create()
        self._place = Place(self.workspace, _tree(self._spare.pid, self._reaper), self._reaper, group, gpus)
        self._renewal = Renewal(self._place, scratch)
        self._run: CallRun | None = None
        self._vacant = True  # the spare waits for a call
        self._tenant: str | None = None
        self._idle_timer: Timer | None = None
        self.execution_id = ""
        """Whose call it has; empty before there is one."""
        self.on_idle_end: Callable[[], None] = loop.stop
        self.on_retired: Callable[[], None] = loop.stop
        loop.watch(self._signals.fd, read=self._on_signals)

    @property
    def journal(self) -> Journal | None:
        """The call's journal once there is a call."""
        return None if self._run is None else self._run.journal

    @property
    def for_reuse(self) -> bool:
        """Whether the call it has may be followed by another."""
        return self._tenant is not None

    def claim(self, body: bytes, attach: Callable[[Journal], None]) -> None:
        """Take the first call, or one that may follow; ``attach`` gets its journal before anything is written to it.

        Raises `AlreadyClaimedError` for any other, and ``ValueError`` for a body that is no call, which claims nothing.
        """
        if not self._vacant or self._spare_is_dead():
            raise AlreadyClaimedError
        call = parse_call(body)
        if not self._may_follow(call["reuse"]):
            raise AlreadyClaimedError
        self._take(call)
        run = self._run = CallRun(self._loop, call, self._spare, self._place)
        attach(run.journal)
        if self.for_reuse:
            run.journal.add_listener(lambda kind, _payload: self._renew_soon(kind, call))
        run.begin()

    def refuse_calls(self) -> None:
        """Take none any more: this sandbox is retired."""
        self._vacant = False

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
        """Have all processes but our own killed, without a report."""
        self._place.tree.kill_all()

    def _on_signals(self) -> None:
        for number, sender in self._signals.read():
            if number != signal.SIGCHLD and not self._from_inside(sender):
                self.leave()
        self._reaper.reap()
        if self._vacant and self._spare.pid in self._reaper.endings:
            self._retire()  # a runner without its spare can serve nobody
        elif self._run is not None and not self._vacant:
            self._run.child_may_have_ended()

    def _spare_is_dead(self) -> bool:
        self._reaper.reap()
        return self._spare.pid in self._reaper.endings

    def _may_follow(self, reuse: Reuse | None) -> bool:
        """Who names the call before has stored its outcome; nobody else knows that this sandbox is free."""
        if self._run is None:
            return reuse is None or reuse["follows"] == ""
        return reuse is not None and (reuse["tenant"], reuse["follows"]) == (self._tenant, self.execution_id)

    def _take(self, call: Call) -> None:
        self._vacant = False
        self.execution_id = call["execution_id"]
        self._tenant = call["reuse"]["tenant"] if call["reuse"] is not None else None
        if self.for_reuse:
            self._renewal.before_a_call()
        if self._idle_timer is not None:
            self._idle_timer.cancel()

    def _renew_soon(self, kind: FrameKind, call: Call) -> None:
        """Off the caller's path: the report leaves first."""
        if kind is FrameKind.REPORT:
            self._loop.call_later(0, lambda: self._renew(call))

    def _renew(self, call: Call) -> None:
        """Become fit for the next call, or retire at any doubt."""
        reuse, run = call["reuse"], self._run
        try:
            if reuse is None or run is None or not run.ran:
                raise DoubtError("the call did not begin")  # noqa: TRY301 - one place where doubts end
            self._renewal.renew(call["limits"]["memory_bytes"])
            self._zygote = self._zygote or self._make_zygote()
            self._spare = self._fork_spare()
        except (DoubtError, OSError):
            self._retire()
            return
        self._reaper.endings.clear()
        self._vacant = True
        self._idle_timer = self._loop.call_later(reuse["idle_seconds"], self._retire)

    def _make_zygote(self) -> Zygote | None:
        """Raises ``OSError``. None where it would not work: PID 1 alone adopts all, and must learn of its children."""
        if os.getpid() != 1 or own_children() is None or not linux.can_fork_siblings():
            return None
        self._reaper.zygote = Zygote(self._env)
        return self._reaper.zygote

    def _fork_spare(self) -> Spare:
        """Raises ``OSError``, and `DoubtError` if the zygote did not survive the calls."""
        if self._zygote is None:
            return make_spare(lambda descriptors: fork_spare(self._env, descriptors))
        if self._reaper.zygote is None:
            raise DoubtError("the zygote is gone")
        return make_spare(self._zygote.fork_spare)

    def _retire(self) -> None:
        self._vacant = False
        if self._run is None:
            self.on_idle_end()
        else:
            self.on_retired()

    def _from_inside(self, sender: int) -> bool:
        """As PID 1 we see senders of our own namespace only: the call may not end its runner. Others come as 0."""
        return sender != 0 and (os.getpid() == 1 or sender in self._place.tree.pids())


def parse_call(body: bytes) -> Call:
    """The call. Raises ``ValueError`` for what is none."""
    try:
        call = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    parts = [(call, Call.__required_keys__), (_item(call, "limits"), Limits.__required_keys__)]
    if _item(call, "reuse") is not None:
        parts.append((_item(call, "reuse"), Reuse.__required_keys__))
    for value, keys in parts:
        if not isinstance(value, dict) or keys - value.keys():
            raise ValueError(f"an object with {', '.join(sorted(keys))} is needed")
    return cast("Call", call)


def _item(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None


def _tree(spare_pid: int, reaper: Reaper) -> Tree:
    if os.getpid() == 1:
        return NamespaceTree(reaper)
    return DescendantTree() if linux.become_subreaper() else GroupTree(spare_pid)
