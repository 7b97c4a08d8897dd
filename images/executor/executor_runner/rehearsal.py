"""A call with nobody in it, from request to report, before the first: it costs the first one half a millisecond less.

What runs for the first time is slow, and memory shared with a fork is copied when it is first written to.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from executor_runner.call import CallRun
from executor_runner.cgroup import MemoryGroup
from executor_runner.connection import Connection
from executor_runner.gathering import Gathering
from executor_runner.loop import Loop
from executor_runner.place import Place
from executor_runner.podlog import PodLog
from executor_runner.process import Ending, Reaper
from executor_runner.protocol import CALL_PATH, TOKEN_HEADER
from executor_runner.protocol.frames import FrameKind, encode_json
from executor_runner.protocol.shapes import Call, Limits
from executor_runner.protocol.tokens import token_hash
from executor_runner.request import Request
from executor_runner.runner import parse_call
from executor_runner.spare import PICKED_UP, Spare, close_all, open_channels
from executor_runner.workspace import Workspace

_NOBODY = (1 << 31) - 1
"""The child's pid: no process can have it."""
_NOWHERE = Path(os.devnull)
"""No folder: the call has no files, so that it depends on no disk."""
_MOST_ANSWER = 64 * 1024
_CALL = Call(
    execution_id="",
    argv=[],
    python=None,
    script=None,
    stdin="",
    env={},
    files={},
    artifacts=[],
    timeout_seconds=1.0,
    grace_seconds=0.0,
    limits=Limits(
        memory_bytes=1 << 40,
        storage_bytes=None,
        processes=1,
        open_files=1,
        output_bytes=1024,
        output_kill_bytes=None,
        artifact_bytes=1,
        value_bytes=1,
    ),
    reuse=None,
)


def rehearse(group: MemoryGroup | None) -> bytes:
    """Play it and return the answer. Raises ``OSError``."""
    with contextlib.ExitStack() as stack:
        loop = Loop()
        stack.callback(loop.close)
        null = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, null)
        spare, released = _silent_spare()
        stack.callback(os.close, released)
        client, ours = map(stack.enter_context, socket.socketpair())
        place = Place(Workspace(_NOWHERE), _NoTree(), _IdleReaper(), group)
        connection = Connection(loop, _Stage(loop, spare, place, null), ours)
        body = encode_json(_CALL)
        head = f"POST {CALL_PATH} HTTP/1.1\r\nHost: -\r\n{TOKEN_HEADER}: -\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        loop.run()
        connection.close()
        return client.recv(_MOST_ANSWER)


class _Stage:
    """A server with one call, which has a child that has said all it has to say."""

    def __init__(self, loop: Loop, spare: Spare, place: Place, log: int) -> None:
        self.delivered = False
        self._loop = loop
        self._spare = spare
        self._place = place
        self._log = log

    def knows(self, request: Request) -> bool:
        """Whatever the token."""
        return token_hash(request.token) != ""

    def handle(self, connection: Connection, _request: Request, body: bytes) -> None:
        """Run the call."""
        run = CallRun(self._loop, parse_call(body), self._spare, self._place)
        run.journal.add_listener(Gathering(self._loop, connection.pump))
        run.journal.add_listener(PodLog(self._loop, self._log, "-", Path(os.devnull)))
        run.journal.add_listener(self._stop)
        connection.stream(run.journal, 0)
        run.begin()
        self._look(run)

    def forget(self, connection: Connection) -> None:
        """It is closed."""

    def _look(self, run: CallRun) -> None:
        if run.ran:
            self._place.reaper.reap()
            run.child_may_have_ended()
        else:
            self._loop.call_later(0, lambda: self._look(run))

    def _stop(self, kind: FrameKind, _payload: bytes) -> None:
        if kind is FrameKind.REPORT:
            self._loop.stop()


class _IdleReaper(Reaper):
    """Reaps nobody, and says that the child has ended."""

    def reap(self) -> None:
        """Pretend."""
        self.endings[_NOBODY] = Ending(0, None)

    @property
    def none_left(self) -> bool:
        """Nobody came."""
        return True


class _NoTree:
    """Has no process."""

    adopts = True

    def pids(self) -> list[int]:
        """None."""
        return []

    def limit(self, most: int) -> None:
        """Nothing to be limited."""

    def signal_all(self, number: int) -> None:
        """Nobody to be told."""

    def kill_all(self) -> None:
        """Nobody to be killed."""


def _silent_spare() -> tuple[Spare, int]:
    """It has said all it has to say. With the descriptor by which it would hear that it is released."""
    channels = open_channels()
    _, stdout, stderr, result, released, _ = channels.theirs
    os.write(result, PICKED_UP + encode_json({}))
    os.write(stdout, b"\n")
    close_all((stdout, stderr, result))
    return Spare(_NOBODY, *channels.ours), released
