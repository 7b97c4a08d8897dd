"""The journal while the call runs: read by several, cut anywhere, taken up again; and calls ended from outside it."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.pod import DONE, OURS, SECONDS, TOKEN, Journal, Pod, python, read_until, shell

from executor_runner.call import PICK_UP_SECONDS
from executor_runner.protocol import CALL_PATH, TOKEN_HEADER
from executor_runner.protocol.frames import FrameKind

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


def _post(sandbox: Pod, call: dict[str, Any]) -> socket.socket:
    body = json.dumps(call).encode()
    sock = sandbox.connect()
    head = f"POST {CALL_PATH} HTTP/1.1\r\n{TOKEN_HEADER}: {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    sock.sendall(head.encode() + body)
    return sock


def test_resume_from_every_offset(sandbox: Pod) -> None:
    """The journal read again from any offset is its tail, byte by byte; beyond its end there is nothing to read."""
    whole = sandbox.run(shell("echo out; echo err >&2; head -c 100 /dev/zero")).data
    for offset in range(len(whole) + 1):
        assert sandbox.ask("GET", f"{OURS}&offset={offset}") == (200, whole[offset:])
    assert sandbox.ask("GET", f"{OURS}&offset={len(whole) + 1}")[0] == 416


@pytest.mark.parametrize("offset", ["-1", "1.0", "x", "0x1", "", "9" * 30, "9" * 9000, "%D9%A1"])
def test_nonsense_offsets_are_refused(sandbox: Pod, offset: str) -> None:
    """An offset that is no number of the journal is refused; an empty one is none."""
    whole = sandbox.run(shell("echo on")).data
    status, body = sandbox.ask("GET", f"{OURS}&offset={offset}")
    assert status in (400, 416) or (offset == "" and body == whole)


def test_several_readers_get_the_same_while_it_runs(sandbox: Pod) -> None:
    """Whoever reads, from wherever, ends with the same journal."""
    with sandbox.start(shell("for i in 1 2 3 4 5; do echo $i; sleep 0.05; done")) as stream, ExitStack() as stack:
        began = read_until(stream, b"1\n")
        readers = [stack.enter_context(sandbox.open("GET", f"{OURS}&offset={n}")) for n in (0, 1, len(began))]
        whole = began + stream.read()
        assert [reader.read() for reader in readers] == [whole, whole[1:], whole[len(began) :]]
    assert Journal(whole).stdout == b"1\n2\n3\n4\n5\n"


@pytest.mark.parametrize("reset", [True, False])
def test_a_cut_connection_loses_nothing(sandbox: Pod, reset: bool) -> None:  # noqa: FBT001 - pytest's parameter
    """A reader that is cut off in the middle of the output takes the journal up where it was, and the call goes on."""
    with closing(_post(sandbox, python("import time\nfor n in range(200):\n print(n)\n time.sleep(0.002)"))) as sock:
        got = 0
        while got < 300:
            got += len(sock.recv(4096))
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    journal = sandbox.resume()
    assert journal.stdout == b"".join(b"%d\n" % n for n in range(200))
    assert journal.report["exit_code"] == 0


def test_connections_cut_while_output_pours(sandbox: Pod) -> None:
    """However many readers are reset in the middle of a flood, the runner and the call live on."""
    flood = "head -c 30000000 /dev/zero; read line < go; echo end"
    with sandbox.start(shell(f"mkfifo go; echo on; {flood}", limits={"output_bytes": 8 << 20})) as stream:
        read_until(stream, b"on\n")
        for _ in range(40):
            with sandbox.connect() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.sendall(f"GET {OURS}&offset=0 HTTP/1.1\r\n{TOKEN_HEADER}: {TOKEN}\r\n\r\n".encode())
                sock.recv(100)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        (sandbox.root / "work" / "go").write_text("\n")
        stream.read()
    journal = sandbox.resume()
    assert journal.stdout.endswith(b"end\n")
    assert journal.report["stdout_bytes"] == 30_000_000 + 7
    assert journal.report["stdout_bytes"] - journal.report["stdout_dropped_bytes"] == len(journal.stdout)


def test_a_reader_that_does_not_read_holds_up_nothing(sandbox: Pod) -> None:
    """A client that stops reading neither blocks the child nor the other readers."""
    with closing(_post(sandbox, shell("head -c 20000000 /dev/zero", limits={"output_bytes": 8 << 20}))) as sock:
        sock.recv(10)
        assert sandbox.resume().report["stdout_bytes"] == 20_000_000


def test_cancel_ends_the_call_and_keeps_its_output(sandbox: Pod) -> None:
    """A cancelled call gets its grace, and all that it said is in the journal."""
    with sandbox.start(shell("trap 'echo late; exit 3' TERM; echo on; while :; do sleep 0.01; done")) as stream:
        data = read_until(stream, b"on\n")
        assert sandbox.ask("DELETE") == (202, b"")
        journal = Journal(data + stream.read())
    assert journal.stdout == b"on\nlate\n"
    assert (journal.report["cause"], journal.report["exit_code"]) == ("cancelled", 3)
    assert sandbox.ask("DELETE")[0] == 202
    assert sandbox.leave() == 0


def test_cancel_before_the_spare_is_ready(sandbox: Pod) -> None:
    """A call that is cancelled while its spare has not picked it up ends at once and has not started."""
    (spare,) = sandbox.below()
    spare.suspend()
    began = time.monotonic()
    with sandbox.start(shell("echo ran")) as stream:
        sandbox.ask("DELETE")
        journal = Journal(stream.read())
    assert time.monotonic() - began < PICK_UP_SECONDS
    assert journal.kinds == [FrameKind.REPORT]
    assert (journal.report["cause"], journal.report["stdout_bytes"]) == ("cancelled", 0)


@pytest.mark.parametrize(
    ("code", "grace", "exit_code", "number"),
    [
        ("trap 'exit 0' TERM; while :; do sleep 0.01; done", 5, 0, None),
        ("trap '' TERM; while :; do sleep 0.01; done", 0.2, None, 9),
        ("kill -STOP $$", 5, None, 15),
        ("sleep 30", 0, None, 9),
    ],
)
def test_timeout_is_the_cause_however_the_child_goes(
    sandbox: Pod, code: str, grace: float, exit_code: int | None, number: int | None
) -> None:
    """A call out of time is told to end, then made to: its cause is the timeout even if it exits with 0 meanwhile."""
    journal = sandbox.run(shell("echo on; " + code, timeout_seconds=1.0, grace_seconds=grace))
    report = journal.report
    assert journal.stdout == b"on\n"
    assert (report["cause"], report["exit_code"], report["signal"]) == ("timeout", exit_code, number)
    assert report["run_ms"] >= 1000


def test_times_are_never_negative(sandbox: Pod) -> None:
    """The shortest of calls takes some time."""
    report = sandbox.run(shell("")).report
    assert report["run_ms"] >= 0
    assert report["collect_ms"] >= 0


def test_output_limit_ends_the_call(sandbox: Pod) -> None:
    """A stream beyond what a template allows ends the call, with the head and the tail of it."""
    journal = sandbox.run(shell("echo on; cat /dev/zero", limits={"output_kill_bytes": 1 << 20, "output_bytes": 1000}))
    assert journal.report["cause"] == "output_limit"
    assert journal.stdout.startswith(b"on\n")
    assert len(journal.stdout) == 1000


def test_leftovers_are_counted_and_killed(sandbox: Pod) -> None:
    """Daemons in sessions of their own, ignorers of SIGTERM and stopped processes end with their call."""
    code = (
        "(setsid sh -c 'trap \"\" TERM HUP; touch one; exec sleep 60' >/dev/null 2>&1 &);"
        " sleep 60 & kill -STOP $!; while [ ! -e one ]; do sleep 0.01; done"
    )
    report = sandbox.run(shell(code)).report
    assert report["processes"] == {"left_behind": 2, "zombies": 0, "unkillable": 0}
    assert sandbox.below() == []


def test_a_runner_opens_nothing_that_it_does_not_close(sandbox: Pod) -> None:
    """After call, readers and strangers the runner holds its streams, its listener, its poll and its signals."""
    runner = psutil.Process(sandbox.process.pid)
    sandbox.run(python("print(1)"))
    for _ in range(20):
        sandbox.resume()
        sandbox.ask("GET", token="guess")  # noqa: S106
    deadline = time.monotonic() + SECONDS
    while runner.num_fds() > 6 and time.monotonic() < deadline:
        time.sleep(0.01)  # the last connection closes after we have its answer
    assert runner.num_fds() == 6


def test_the_child_cannot_end_the_runner(sandbox: Pod) -> None:
    """SIGTERM and SIGINT from the call's own processes are ignored, and the call goes on."""
    journal = sandbox.run(shell("kill -TERM $PPID; kill -INT $PPID; sleep 0.1; echo alive"))
    assert journal.stdout == b"alive\n"
    assert (journal.report["cause"], journal.report["exit_code"]) == (None, 0)


def test_the_child_cannot_keep_the_service_out(sandbox: Pod) -> None:
    """A call that takes every connection of its own runner does not hide its result."""
    code = (
        "import socket, time\n"
        f"kept = [socket.create_connection(('127.0.0.1', {sandbox.port})) for _ in range(100)]\n"
        "print('full')\ntime.sleep(0.5)"
    )
    with sandbox.start(python(code)) as stream:
        read_until(stream, b"full")
        assert sandbox.resume().report["exit_code"] == 0


def test_many_calls_race_for_one_runner(sandbox: Pod) -> None:
    """Of many claims at the same moment exactly one is taken, and the others are told so."""
    statuses: list[int] = []
    gate = threading.Barrier(8)

    def claim() -> None:
        gate.wait()
        statuses.append(sandbox.ask("POST", body=json.dumps(shell("echo ran >> ../ran")).encode())[0])

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [409] * 7
    assert (sandbox.root / "ran").read_text() == "ran\n"


def test_a_log_that_nobody_reads_holds_up_nothing(tmp_path: Path) -> None:
    """A full log pipe delays neither the call nor its journal, and keeps the runner only for a moment at its end."""
    read_end, write_end = os.pipe()
    try:
        sandbox = Pod(tmp_path / "pod", stdout=write_end)
        try:
            report = sandbox.run(shell("head -c 300000 /dev/zero", limits={"output_bytes": 1 << 20})).report
            assert (report["stdout_bytes"], report["stdout_dropped_bytes"]) == (300_000, 0)
            assert sandbox.ask("POST", DONE)[0] == 204
            assert sandbox.process.wait(SECONDS) == 0
        finally:
            sandbox.close()
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_log_whose_reader_is_gone_ends_nothing(tmp_path: Path) -> None:
    """A closed log pipe costs the log and nothing else."""
    sandbox = Pod(tmp_path / "pod", stdout=subprocess.PIPE)
    try:
        assert sandbox.process.stdout is not None
        sandbox.process.stdout.close()
        assert sandbox.run(shell("echo on; echo more")).stdout == b"on\nmore\n"
        assert sandbox.leave() == 0
    finally:
        sandbox.close()
