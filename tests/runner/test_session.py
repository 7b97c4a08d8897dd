"""The runner behind one socket, as the local backend has it, in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.machine import Marked, eventually
from support.pod import SECONDS, Journal, reused, shell

from executor_runner.protocol.frames import FrameKind, encode_json
from executor_runner.protocol.local import CANCEL, REFUSED, decode_call, encode_call

RUNNER = """
import os, socket, sys
from pathlib import Path
from executor_runner.loop import Loop
from executor_runner.runner import Runner
from executor_runner.session import Session
loop = Loop()
runner = Runner(loop, Path(sys.argv[2]), os.environ, None)
Session(loop, runner, socket.socket(fileno=int(sys.argv[1])))
loop.run()
runner.kill_everything()
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[socket.socket]:
    """The service's end of the socket; closing it ends the runner."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-c", RUNNER, str(theirs.fileno()), str(tmp_path / "root")]
        runner = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
    ours.settimeout(SECONDS)
    with runner, ours:
        yield ours
        ours.close()
        assert runner.stderr is not None
        assert runner.stderr.read() == b""
        assert runner.wait(SECONDS) == 0


def journal(service: socket.socket) -> Journal:
    """Read on until the report."""
    data = bytearray()
    while not (found := Journal(bytes(data))).frames or found.frames[-1].kind is not FrameKind.REPORT:
        data += service.recv(65536)
    return found


def test_a_cancel_right_behind_the_call_is_heard(service: socket.socket) -> None:
    """Call and cancel that arrive together are a call that is cancelled."""
    service.sendall(encode_call(encode_json(shell("echo ran; sleep 60"))) + CANCEL)
    assert journal(service).report["cause"] == "cancelled"


def test_a_call_may_come_in_pieces(service: socket.socket) -> None:
    """However slowly its bytes come, it is one call."""
    for byte in encode_call(encode_json(shell("echo whole"))):
        service.sendall(bytes([byte]))
    found = journal(service)
    assert (found.text(FrameKind.STDOUT), found.report["exit_code"]) == (b"whole\n", 0)


def test_a_service_that_is_gone_ends_the_call(service: socket.socket) -> None:
    """When the other end closes in the middle of a call, the runner ends, and its processes with it."""
    marked = Marked()
    service.sendall(encode_call(encode_json(shell(f"setsid {marked.sleeper()} & {marked.sleeper()}"))))
    eventually(lambda: len(marked.pids()) > 1)
    service.close()
    eventually(lambda: not marked.pids())


def call(command: str, **changes: Any) -> bytes:
    """A call of a shell, as it is sent."""
    return encode_call(encode_json(shell(command, **changes)))


def test_one_call_follows_the_other(service: socket.socket) -> None:
    """On the same socket; a cancel that comes too late is not taken for the beginning of the next call."""
    service.sendall(call("echo 1", **reused()))
    assert journal(service).text(FrameKind.STDOUT) == b"1\n"
    service.sendall(CANCEL)
    service.sendall(CANCEL + call("echo 2", **reused("e1", "e2")))
    found = journal(service)
    assert (found.text(FrameKind.STDOUT), found.report["cause"]) == (b"2\n", None)


@pytest.mark.parametrize(
    "wrong",
    [reused("e1", "e2", tenant="t2"), reused("e0", "e2"), {"execution_id": "e2"}],
    ids=["tenant", "follows", "single-use"],
)
def test_a_call_that_must_not_follow_is_refused(service: socket.socket, wrong: dict[str, Any]) -> None:
    """It is told so, and the runner ends: somebody is wrong about it."""
    service.sendall(call("true", **reused()))
    journal(service)
    service.sendall(call("echo no", **wrong))
    assert service.recv(100) == REFUSED
    assert service.recv(100) == b""


def test_a_runner_that_is_idle_for_long_refuses_what_comes(service: socket.socket) -> None:
    """A call that crosses with its end was not taken, and can be known not to have been."""
    service.sendall(call("true", **reused(idle_seconds=0.1)))
    journal(service)
    assert service.recv(100) == REFUSED
    assert service.recv(100) == b""


def test_a_report_goes_before_the_refusal(service: socket.socket) -> None:
    """A runner that is in doubt after a call still says all of that call."""
    limits = {"output_bytes": 8 << 20}
    service.sendall(call("rm -rf ../../root; head -c 3000000 /dev/zero", limits=limits, **reused()))
    data = b""
    while piece := service.recv(65536):
        data += piece
    assert data.endswith(REFUSED)
    assert len(Journal(data.removesuffix(REFUSED)).stdout) == 3_000_000


def test_a_call_is_told_from_what_follows() -> None:
    """The length decides where a call ends, at every cut."""
    data = encode_call(b"{}") + CANCEL
    assert not any(decode_call(data[:size]) for size in range(len(data) - 1))
    assert decode_call(data[:-1]) == (b"{}", b"")
    assert decode_call(data) == (b"{}", CANCEL)
