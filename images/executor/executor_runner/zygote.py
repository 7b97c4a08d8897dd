"""The zygote: a small process that does nothing but fork spares, for a sandbox that is used again and again.

A fork makes both sides copy every page they write to from then on. The runner writes to many, again after each fork;
the zygote to few. It is forked before the runner hears a secret, so that no spare has one in its memory. It is the only
process of the sandbox, beside the runner, that stays from one call to the next: code of a call can kill or stop it, as
it can any process of its user, but neither read it nor talk to it.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import socket
import struct
from collections.abc import Mapping
from typing import NoReturn

from executor_runner import linux
from executor_runner.spare import arrange_descriptors, be_spare, close_all, open_channels, prepare

_SPARE, _KILL = b"S", b"K"
_CONTROL_FD = 3
_PATIENCE = 2.0
"""Seconds that a spare may take. A zygote that was stopped or killed makes none."""
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
        self._control.settimeout(_PATIENCE)
        self._asked_to_kill = False

    def fork_spare(self, descriptors: tuple[int, ...]) -> int:
        """Have it fork a spare with these descriptors; returns its pid. Raises ``OSError``, and is of no use then."""
        self._asked_to_kill = False
        socket.send_fds(self._control, [_SPARE], descriptors)
        answer = self._control.recv(_ANSWER.size)
        if len(answer) != _ANSWER.size:
            raise ChildProcessError("the zygote is gone")
        pid, error = _ANSWER.unpack(answer)
        if error:
            raise OSError(error, os.strerror(error))
        return int(pid)

    def kill_others(self) -> bool:
        """Have it kill all but itself and the runner. False if it was asked before, and perhaps can't."""
        if self._asked_to_kill:
            return False
        self._asked_to_kill = True
        try:
            self._control.send(_KILL)
        except OSError:
            return False
        return True


def _be_zygote(control: socket.socket, env: Mapping[str, str]) -> NoReturn:
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        channels = open_channels()  # stand-ins, so that the streams that spares inherit are of the right kind
        stdin, stdout, stderr, *_ = channels.theirs
        arrange_descriptors(stdin, stdout, stderr, control.fileno())
        control.detach()
        prepare(env)
        gc.collect()
        gc.freeze()
        _serve(socket.socket(fileno=_CONTROL_FD))
    finally:
        os._exit(0)


def _serve(control: socket.socket) -> None:
    """Until the runner is gone. Does as little as it can: all that it touches is copied, after each fork anew."""
    room = socket.CMSG_SPACE(_DESCRIPTORS * _DESCRIPTOR.size)
    while True:
        order, attached, _, _ = control.recvmsg(1, room)
        if order == _SPARE:
            descriptors = [number for _, _, data in attached for (number,) in _DESCRIPTOR.iter_unpack(data)]
            control.send(_fork(descriptors))
            close_all(descriptors)
        elif order == _KILL:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)  # spares PID 1 and whoever sends it
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
