"""The zygote: a small process that does nothing but fork spares, for a sandbox that is used again and again.

A fork makes both sides copy every page they write to from then on. The runner writes to many, again after each fork;
the zygote to few. In a pod it is forked before the runner hears a secret, so that no spare has one in its memory; on a
laptop, when there is a second call to come, so that it may hold what an earlier call of the same tenant was given.

It is the only process of the sandbox, beside the runner, that stays from one call to the next. Code of a call can kill
or stop it, or change its limits, as with any process of its user: `Renewal` sees that. It can't read it or talk to it.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import select
import signal
import socket
import struct
import traceback
from collections.abc import Mapping
from typing import NoReturn

from executor_runner import linux
from executor_runner.spare import arrange_descriptors, be_spare, close_all, open_channels, prepare, rehearse

_SPARE, _KILL = b"S", b"K"
_STDERR = 2
_CONTROL_FD, _COMPLAINTS_FD = 3, 4
_START_SECONDS = 60.0
"""How long its first spare may take: it starts on a machine that may have no time for it."""
_PATIENCE = 5.0
"""Seconds that any other may take. A zygote that was stopped or killed makes none."""
_ANSWER = struct.Struct("=ii")  # pid or 0, errno
_DESCRIPTOR = struct.Struct("=i")
_DESCRIPTORS = 6


class Zygote:
    """The runner's side. The runner must be PID 1: it adopts the spares and tells by its children what is left."""

    def __init__(self, env: Mapping[str, str]) -> None:
        """Fork it; ``env``: what every call has. Raises ``OSError``."""
        self._control, theirs = socket.socketpair()
        with theirs:
            self.pid = os.fork()
            if self.pid == 0:
                _be_zygote(theirs, env)
        self._control.settimeout(0)
        self._patience = _START_SECONDS
        self._kills = False  # was told to, and has not said yet that it did

    def fork_spare(self, descriptors: tuple[int, ...]) -> int:
        """Have it fork a spare with these descriptors; returns its pid. Raises ``OSError``, and is of no use then."""
        if self._kills:
            self._answer(self._patience)
            self._kills = False
        socket.send_fds(self._control, [_SPARE], descriptors)
        pid, error = self._answer(self._patience)
        if error:
            raise OSError(error, os.strerror(error))
        self._patience = _PATIENCE
        return pid

    def kill_others(self) -> bool:
        """Have it kill all but itself and the runner. False if it has not done so since it was last told to."""
        try:
            if self._kills:
                self._answer(0.0)
            self._control.send(_KILL)
        except OSError:
            return False
        self._kills = True
        return True

    def _answer(self, seconds: float) -> tuple[int, int]:
        """Pid and error. Raises ``OSError``."""
        if not select.select([self._control], (), (), seconds)[0]:
            raise TimeoutError("the zygote does not answer")
        answer = self._control.recv(_ANSWER.size)
        if len(answer) != _ANSWER.size:
            raise ChildProcessError("the zygote is gone")
        pid, error = _ANSWER.unpack(answer)
        return int(pid), int(error)


def _be_zygote(control: socket.socket, env: Mapping[str, str]) -> NoReturn:
    try:
        channels = open_channels()  # stand-ins, so that the streams that spares inherit are of the right kind
        stdin, stdout, stderr, *_ = channels.theirs
        arrange_descriptors(stdin, stdout, stderr, control.fileno(), _STDERR)
        control.detach()
        prepare(env)
        rehearse()  # here too: the less a spare is the first to do, the fewer pages it copies
        gc.collect()
        gc.freeze()
        _serve(socket.socket(fileno=_CONTROL_FD))
    except Exception:  # noqa: BLE001 - whatever preloaded modules make of a fork: the runner's log has it
        os.write(_COMPLAINTS_FD, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(0)


def _serve(control: socket.socket) -> None:
    """Until the runner is gone. Does as little as it can: all that it touches is copied, after each fork anew."""
    room = socket.CMSG_SPACE(_DESCRIPTORS * _DESCRIPTOR.size)
    while True:
        try:
            order, attached, _, _ = control.recvmsg(1, room)
        except ConnectionResetError:
            return  # it went without reading the last answer
        if order == _SPARE:
            descriptors = [number for _, _, data in attached for (number,) in _DESCRIPTOR.iter_unpack(data)]
            control.send(_fork(descriptors))
            close_all(descriptors)
        elif order == _KILL:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)  # spares PID 1 and whoever sends it
            control.send(_ANSWER.pack(0, 0))
        else:
            return


def _fork(descriptors: list[int]) -> bytes:
    try:
        pid = linux.fork_sibling()
    except OSError as error:
        return _ANSWER.pack(0, error.errno or errno.EIO)
    if pid == 0:
        be_spare(descriptors)
    return _ANSWER.pack(pid, 0)
