"""Who may hand a runner its call, and what becomes of all that is no such request."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from support.pod import DONE, SECONDS, TOKEN, Pod, a_call, pod, python, read_until, shell

from executor_runner.connection import MAX_BODY, MAX_HEAD
from executor_runner.protocol import (
    CALL_PATH,
    DONE_PATH,
    POD_ENV,
    POD_HEADER,
    RETIRE_PATH,
    TOKEN_HASH_ENV,
    TOKEN_HEADER,
)
from executor_runner.protocol.frames import FrameKind
from executor_runner.server import MAX_CONNECTIONS

_HEAD = f"{{}} {CALL_PATH} HTTP/1.1\r\nHost: pod\r\n{TOKEN_HEADER}: {TOKEN}\r\n"


def _status(sock: socket.socket) -> int:
    """The status of the answer on a bare connection; 400 only for what is no request at all."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
    status = int(data.split(b" ")[1])
    assert status != 400 or data.endswith(b"\r\n\r\nnot an HTTP/1.1 request\n")
    return status


def _send(sandbox: Pod, text: bytes) -> int:
    with sandbox.connect() as sock:
        sock.sendall(text)
        return _status(sock)


def _still_serves(sandbox: Pod) -> None:
    assert sandbox.run(shell("echo served")).stdout == b"served\n"


def test_a_call_runs_and_the_runner_leaves_when_told(sandbox: Pod) -> None:
    """A claim streams start, output and report, and after the service is done the runner exits with 0."""
    journal = sandbox.run(shell("echo out; echo err >&2; exit 7"))
    assert journal.kinds[0] is FrameKind.STARTED
    assert (journal.stdout, journal.stderr) == (b"out\n", b"err\n")
    assert (journal.report["exit_code"], journal.report["cause"], journal.report["execution_id"]) == (7, None, "e1")
    assert sandbox.leave() == 0


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_another_token_gets_401_and_claims_nothing(sandbox: Pod, method: str) -> None:
    """A request with a wrong or no token is refused, and the runner is still free."""
    assert sandbox.ask(method, body=json.dumps(shell("echo no")).encode(), token="guess")[0] == 401  # noqa: S106
    assert _send(sandbox, f"{method} {CALL_PATH} HTTP/1.1\r\n\r\n".encode()) == 401
    _still_serves(sandbox)


def test_a_call_for_another_pod_is_refused(tmp_path: Path) -> None:
    """A runner that knows its pod takes no call that names another one, though the token is right."""
    body = json.dumps(shell("echo ran")).encode()
    with pod(tmp_path, **{POD_ENV: "uid-2"}) as sandbox:
        fields = f"{POD_HEADER}: uid-1\r\nContent-Length: {len(body)}\r\n\r\n"
        assert _send(sandbox, _HEAD.format("POST").encode() + fields.encode() + body) == 421
        assert sandbox.ask("GET")[0] == 404, "it has no call"
        with sandbox.connect() as sock:
            sock.sendall(_HEAD.format("POST").encode() + fields.replace("uid-1", "uid-2").encode() + body)
            assert sock.recv(64).startswith(b"HTTP/1.1 200")
        assert sandbox.resume().stdout == b"ran\n"


def test_second_claim_gets_409(sandbox: Pod) -> None:
    """Only one call is ever taken, while it runs and after it has ended."""
    second = json.dumps(shell("echo second")).encode()
    with sandbox.start(shell("echo first; sleep 0.2")) as stream:
        read_until(stream, b"first\n")
        assert sandbox.ask("POST", body=second)[0] == 409
        stream.read()
    assert sandbox.ask("POST", body=second)[0] == 409
    assert sandbox.resume().stdout == b"first\n"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"argv": ["true"]}',
        json.dumps({**a_call(argv=["true"]), "limits": {}}).encode(),
        json.dumps({**a_call(argv=["true"]), "limits": 7}).encode(),
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_no_call_gets_400_and_claims_nothing(sandbox: Pod, body: bytes) -> None:
    """A request whose body is not a call leaves the runner free for one that is."""
    assert sandbox.ask("POST", body=body)[0] == 400
    _still_serves(sandbox)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": 7},
        {"files": {"a": 7}},
        {"files": {"../a": ""}},
        {"files": {"/a": ""}},
        {"files": {"a": "", "a/b": ""}},
        {"files": {"a\0b": ""}},
        {"env": [1]},
        {"stdin": "a"},
        {"argv": 7},
    ],
)
def test_a_call_that_cannot_be_set_up_says_so(sandbox: Pod, changes: dict[str, object]) -> None:
    """What cannot be prepared ends in a report that says so, and nothing has run."""
    journal = sandbox.run({**shell("echo ran"), **changes})
    if journal.report["cause"] is None:  # the child itself found out
        assert journal.report["exit_code"] != 0
    else:
        assert journal.report["cause"] == "setup_failed"
    assert journal.stdout == b""


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1 more\r\n\r\n", 400),
        (_HEAD.format("POST").encode() + b"Content-Length: -1\r\n\r\n", 400),
        (_HEAD.format("POST").encode() + b"Content-Length: 1_0\r\n\r\n0123456789", 400),
        (_HEAD.format("POST").encode() + b"Content-Length: +2\r\n\r\n{}", 400),
        (_HEAD.format("POST").encode() + b"Content-Length: 0x2\r\n\r\n{}", 400),
        (_HEAD.format("POST").encode() + b"Content-Length: 2, 2\r\n\r\n{}", 400),
        (_HEAD.format("POST").encode() + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (_HEAD.format("POST").encode() + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400),
        (_HEAD.format("POST").encode() + b"Content-Length : 2\r\n\r\n{}", 400),
        (_HEAD.format("POST").encode() + b"X: y\r\n Content-Length: 2\r\n\r\n{}", 400),
        (_HEAD.format("POST").encode() + f"{TOKEN_HEADER}: other\r\n\r\n".encode(), 400),
        (_HEAD.format("POST").encode() + b"no colon\r\n\r\n", 400),
        (_HEAD.format("POST").encode() + f"Content-Length: {MAX_BODY + 1}\r\n\r\n".encode(), 413),
        (_HEAD.format("POST").encode() + b"Content-Length: 1" + b"0" * 18 + b"\r\n\r\n", 413),
        (_HEAD.format("POST").encode() + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 413),
        (_HEAD.format("PUT").encode() + b"\r\n", 404),
        (_HEAD.format("GET").encode() + b"\r\n", 404),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * (2 * MAX_HEAD), 431),
    ],
)
def test_what_is_no_request_is_refused(sandbox: Pod, text: bytes, status: int) -> None:
    """Garbage, ambiguous lengths, chunks and oversized heads get their 4xx, and the runner still serves."""
    assert _send(sandbox, text) == status
    _still_serves(sandbox)


def test_a_strangers_body_is_not_kept(sandbox: Pod) -> None:
    """A request without the token is answered from its head: its body is never waited for."""
    head = f"POST {CALL_PATH} HTTP/1.1\r\nContent-Length: {MAX_BODY}\r\n\r\n".encode()
    assert _send(sandbox, head) == 401
    assert _send(sandbox, head + bytes(4 << 20)) == 401


def test_a_request_may_come_in_pieces(sandbox: Pod) -> None:
    """A request that arrives byte by byte is served like any other."""
    body = json.dumps(shell("echo slowly")).encode()
    text = _HEAD.format("POST").encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    with sandbox.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(len(text)):
            sock.send(text[number : number + 1])
        assert _status(sock) == 200
    assert sandbox.resume().stdout == b"slowly\n"


def test_expect_continue_is_answered(sandbox: Pod) -> None:
    """A client that asks before it sends its body is told to go on."""
    body = json.dumps(shell("echo expected")).encode()
    with sandbox.connect() as sock:
        sock.sendall(_HEAD.format("POST").encode())
        sock.sendall(f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert _status(sock) == 200


def test_half_a_request_claims_nothing(sandbox: Pod) -> None:
    """A connection that is cut within head or body leaves the runner free."""
    body = json.dumps(shell("echo half")).encode()
    text = _HEAD.format("POST").encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    for end in (1, 30, len(text) - len(body), len(text) - 1):
        with sandbox.connect() as sock:
            sock.sendall(text[:end])
    assert sandbox.ask("GET")[0] == 404
    _still_serves(sandbox)


def test_silent_connections_keep_nobody_out(sandbox: Pod) -> None:
    """However many connections say nothing, the service still gets in."""
    with ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS + 20):
            stack.enter_context(sandbox.connect())
        _still_serves(sandbox)


def test_an_unclaimed_runner_knows_no_call(sandbox: Pod) -> None:
    """Before the claim there is nothing to read, to cancel or to be done with."""
    assert sandbox.ask("GET")[0] == 404
    assert sandbox.ask("DELETE")[0] == 404
    assert sandbox.ask("POST", DONE)[0] == 404
    _still_serves(sandbox)


def test_a_call_answers_to_its_own_name_only(sandbox: Pod) -> None:
    """Another replica that has the token but means another execution can't read, cancel or end this one's call."""
    with sandbox.start(shell("echo secret; sleep 600", timeout_seconds=0.5)) as response:
        read_until(response, b"secret")
        for method, path in [("GET", CALL_PATH), ("DELETE", CALL_PATH), ("POST", DONE_PATH), ("POST", RETIRE_PATH)]:
            for name in ("", "?execution=", "?execution=e2"):
                assert sandbox.ask(method, path + name) == (409, b"claimed by e1\n")
        response.read()
    assert sandbox.resume().report["cause"] == "timeout"
    assert sandbox.leave() == 0


def test_a_retired_runner_takes_no_call_and_leaves(sandbox: Pod) -> None:
    """Retiring goes through the one who decides claims: a call that comes behind it finds no taker."""
    assert sandbox.ask("POST", RETIRE_PATH) == (204, b"")
    assert sandbox.ask("POST", body=json.dumps(shell("echo 1")).encode())[0] == 409
    assert sandbox.process.wait(SECONDS) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_unclaimed_runner_leaves_at_a_signal(sandbox: Pod, number: signal.Signals) -> None:
    """A runner without a call ends when told to, with its spare."""
    (spare,) = sandbox.below()
    sandbox.process.send_signal(number)
    assert sandbox.process.wait(SECONDS) == 0
    with contextlib.suppress(psutil.NoSuchProcess):
        while spare.status() != psutil.STATUS_ZOMBIE:  # whoever adopted it may take its time to reap it
            time.sleep(0.005)


def test_a_runner_whose_spare_died_leaves(sandbox: Pod) -> None:
    """A runner that could serve nobody does not wait for a call."""
    (spare,) = sandbox.below()
    spare.kill()
    assert sandbox.process.wait(SECONDS) == 0


def test_a_spare_that_dies_as_the_claim_comes_is_reported(sandbox: Pod) -> None:
    """Whichever the runner sees first, the claim or the death, the caller gets an honest answer."""
    (spare,) = sandbox.below()
    spare.suspend()
    with sandbox.start(python("print(1)")) as stream:
        spare.kill()
        data = stream.read()
    assert b'"cause":"setup_failed"' in data


def test_done_before_the_report_is_refused(sandbox: Pod) -> None:
    """A running call cannot be ended by saying that its report is stored."""
    with sandbox.start(shell("echo on; sleep 600")) as stream:
        read_until(stream, b"on\n")
        assert sandbox.ask("POST", DONE)[0] == 409
        assert sandbox.ask("DELETE")[0] == 202
        stream.read()
    assert sandbox.leave() == 0


def test_a_runner_without_a_token_refuses_to_start() -> None:
    """Started by hand, the runner says in one sentence what it lacks."""
    command = [sys.executable, "-P", "-m", "executor_runner"]
    environ = {name: value for name, value in os.environ.items() if name != TOKEN_HASH_ENV}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"executor_runner: {TOKEN_HASH_ENV} is not set; only the service starts sandboxes\n"
