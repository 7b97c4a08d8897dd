"""Calls ended from outside or by a limit, and the copies of the result that stay when nobody took it by HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.machine import eventually
from support.pod import SECONDS, TOKEN, Journal, Pod, encoded, python, read_until, reused, shell

from executor_runner.__main__ import LINGER_SECONDS
from executor_runner.protocol import TERMINATION_LIMIT
from executor_runner.protocol.frames import FrameKind
from executor_runner.protocol.podlog import LogCopy, parse, unseal


def _log(sandbox: Pod) -> LogCopy:
    return parse(TOKEN, sandbox.copies()[1].split(b"\n"))


def _said(copy: LogCopy, kind: FrameKind) -> bytes:
    return b"".join(data for found, data in copy.frames if found is kind)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("trap 'echo late; exit 5' TERM; echo on; while :; do sleep 0.01; done", b"on\nlate\n"),
        ("trap '' TERM; echo on; while :; do sleep 0.01; done", b"on\n"),
    ],
)
def test_sigterm_in_the_middle_leaves_both_copies(sandbox: Pod, code: str, said: bytes) -> None:
    """A pod that is told to end reports so, and log and termination message carry what the stream carries."""
    with sandbox.start(shell(code)) as stream:
        data = read_until(stream, b"on\n")
        sandbox.process.send_signal(signal.SIGTERM)
        journal = Journal(data + stream.read())
    assert (journal.report["cause"], journal.stdout) == ("terminated", said)
    assert unseal(TOKEN, sandbox.copies()[0]) == journal.report
    copy = _log(sandbox)
    assert (copy.started, copy.report, _said(copy, FrameKind.STDOUT)) == (True, journal.report, said)
    assert sandbox.below() == []


def test_sigterm_after_the_report_ends_the_runner(sandbox: Pod) -> None:
    """A runner that has reported does not hold up the deletion of its pod."""
    sandbox.run(shell("true", **reused(idle_seconds=1000.0)))  # or it would leave by itself
    sandbox.process.send_signal(signal.SIGTERM)
    assert sandbox.process.wait(SECONDS) == 0


def test_a_runner_whose_reader_has_all_leaves_by_itself(sandbox: Pod) -> None:
    """If the service says nothing after it has read the report, the runner leaves soon."""
    sandbox.run(shell("true"))
    assert sandbox.process.wait(LINGER_SECONDS - 5) == 0


def test_a_report_that_nobody_took_stays_to_be_taken(sandbox: Pod) -> None:
    """A reader that was cut off before the end can come back seconds later."""
    with sandbox.connect() as sock:
        body = json.dumps(shell("sleep 0.1; head -c 3000000 /dev/zero", limits={"output_bytes": 4 << 20})).encode()
        head = f"POST /v1/call HTTP/1.1\r\nExecutor-Token: {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        sock.recv(10)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with pytest.raises(subprocess.TimeoutExpired):
        sandbox.process.wait(3)
    assert len(sandbox.resume().stdout) == 3_000_000


def test_an_end_that_nobody_was_sent_is_in_the_log_at_once(sandbox: Pod) -> None:
    """If the reader was cut off and the container is killed right behind the report, the log still has it whole."""
    sandbox.start(python("import time\ndef f():\n time.sleep(0.5)\n return 'x' * 9000", "f")).close()
    eventually(lambda: sandbox.termination_log.exists() and sandbox.termination_log.read_bytes())
    assert sandbox.ask("GET", "/")[0] == 404  # whatever follows the message in the same breath is done
    sandbox.process.kill()
    sandbox.process.wait(SECONDS)
    report = parse(TOKEN, sandbox.log.read_bytes().split(b"\n")).report
    assert report is not None
    assert len(report["value_json"]) == 9002


@pytest.mark.parametrize(
    "forge", ["truncate -s 9999 $F", 'printf \'%s\' \'{"report": "{}", "mac": ""}\' > $F', "rm -f $F"]
)
def test_a_forged_termination_message_is_replaced(sandbox: Pod, forge: str) -> None:
    """Whatever the call writes where the kubelet looks, the sealed report is what stays there."""
    sandbox.termination_log.write_bytes(b"")
    report = sandbox.run(shell(forge + "; exit 7", env={"F": str(sandbox.termination_log)})).report
    assert report["exit_code"] == 7
    assert unseal(TOKEN, sandbox.copies()[0]) == report


def test_a_large_report_leaves_a_short_termination_message(sandbox: Pod) -> None:
    """A report with a large value still leaves its verdict in what the kubelet keeps; the log has it whole."""
    report = sandbox.run(python("def f(): return '\\U0001f600' * 4000", "f")).report
    text = sandbox.copies()[0]
    short = unseal(TOKEN, text)
    assert len(text) <= TERMINATION_LIMIT
    assert short is not None
    assert short["exit_code"] == 0
    assert "value_json" not in short
    assert _log(sandbox).report == report


def test_hostile_output_comes_back_from_the_log(sandbox: Pod) -> None:
    """Output that looks like the log's own lines, or is no text at all, is read back byte by byte."""
    hostile = b"end| {}\nrun| {}\nout= AAAA\n\r\n\xff\xfe\0no newline \x1b[0m" + bytes(range(256)) * 100
    call = python("import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())")
    call["stdin"] = encoded(hostile)
    journal = sandbox.run(call)
    copy = _log(sandbox)
    assert journal.stdout == _said(copy, FrameKind.STDOUT) == hostile
    assert copy.report == journal.report


def test_the_child_reads_nothing_of_the_runner(sandbox: Pod) -> None:
    """The token and the report are out of reach: the runner's memory and descriptors are closed to its child."""
    code = f"""
import os
for name in ('mem', 'environ', 'maps', 'fd/1'):
    try:
        open('/proc/{sandbox.process.pid}/' + name, 'rb').close()
        print(name)
    except OSError:
        pass
"""
    if os.geteuid() == 0:  # root may read everything: the child has given up what makes it so
        code = "print(open('/proc/self/status').read().split('CapEff:')[1].split()[0])\n" + code
    said = sandbox.run(python(code)).stdout.decode().split()
    assert [word for word in said if set(word) != {"0"}] == []


_MANY = (
    "import os, time\nfor _ in range(60):\n if os.fork() == 0: time.sleep(60)\nprint('all', flush=True)\ntime.sleep(60)"
)
_GROW = "kept = []\nimport time\nwhile True:\n kept.append(b'x' * (4 << 20)); time.sleep(0.005)"


@pytest.mark.parametrize(
    ("code", "limits", "cause"),
    [
        (_MANY, {"processes": 40}, "process_limit"),
        (_GROW, {"memory_bytes": 64 << 20}, "out_of_memory"),
        (
            "file = open('fill', 'wb')\nimport time\nwhile True:\n file.write(b'x' * 65536); time.sleep(0.001)",
            {"storage_bytes": 8 << 20},
            "storage_limit",
        ),
    ],
)
def test_limits_end_the_call_with_its_output(sandbox: Pod, code: str, limits: dict[str, Any], cause: str) -> None:
    """A call beyond a limit is ended for that limit, in one round, with what it had printed."""
    journal = sandbox.run(python("print('before')\n" + code, limits=limits))
    assert (journal.report["cause"], journal.report["signal"]) == (cause, 9)
    assert journal.stdout.startswith(b"before\n")
    assert sandbox.below() == []


def test_hard_links_are_no_more_than_their_file(sandbox: Pod) -> None:
    """A file under many names is counted once against the disk's limit."""
    code = (
        "import os, time\nopen('file', 'wb').write(b'x' * (1 << 20))\n"
        "for n in range(100): os.link('file', f'{n}')\ntime.sleep(0.7)"
    )
    report = sandbox.run(python(code, limits={"storage_bytes": 8 << 20})).report
    assert (report["cause"], report["exit_code"]) == (None, 0)


def test_zombies_of_the_call_are_counted(sandbox: Pod) -> None:
    """Children that a call never waited for are in the census of a call that is ended, and gone afterwards."""
    code = (
        "import os, time\nfor _ in range(5):\n pid = os.fork()\n if pid == 0: os._exit(0)\n"
        " os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)\nprint('on')\ntime.sleep(60)"
    )
    with sandbox.start(python(code, grace_seconds=0)) as stream:
        data = read_until(stream, b"on")
        sandbox.ask("DELETE")
        report = Journal(data + stream.read()).report
    assert report["processes"] == {"left_behind": 0, "zombies": 5, "unkillable": 0}
    assert sandbox.below() == []


def test_a_fork_bomb_leaves_nothing(sandbox: Pod) -> None:
    """Processes that double themselves are stopped, all of them, and the runner reports."""
    # Eleven times only: a limit that failed must not take the machine with it.
    code = "import os, time\nprint('on', flush=True)\nfor _ in range(11): os.fork()\ntime.sleep(20)"
    report = sandbox.run(python(code, limits={"processes": 60}, grace_seconds=0)).report
    assert report["cause"] == "process_limit"
    assert report["processes"]["unkillable"] == 0
    assert sandbox.below() == []


def test_a_vfork_that_waits_for_ever_is_ended(sandbox: Pod) -> None:
    """A process in uninterruptible sleep ends with the others, within the bound."""
    code = (
        "import os\nprint('on')\nos.mkfifo('pipe')\n"
        "os.posix_spawn('/bin/true', ['true'], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, 'pipe', os.O_RDONLY, 0)])"
    )
    journal = sandbox.run(python(code, timeout_seconds=1.0, grace_seconds=0.1))
    assert (journal.stdout, journal.report["cause"]) == (b"on\n", "timeout")
    assert journal.report["processes"]["unkillable"] == 0


def test_orphans_are_adopted_and_reaped(sandbox: Pod) -> None:
    """Orphans that end while the call runs leave no zombie with the runner."""
    with sandbox.start(shell("for i in $(seq 200); do (true &); done; echo made; sleep 60")) as stream:
        read_until(stream, b"made\n")
        deadline = time.monotonic() + SECONDS
        while len(sandbox.below()) > 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        left = [process for process in sandbox.below() if process.status() == psutil.STATUS_ZOMBIE]
        assert left == []
        sandbox.ask("DELETE")
        stream.read()
    assert Path(f"/proc/{sandbox.process.pid}").exists()
