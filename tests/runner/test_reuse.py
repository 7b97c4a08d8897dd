"""A runner in a pod that serves one call after the other of its tenant, and leaves at any doubt."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.machine import Marked, eventually
from support.pod import OURS, SECONDS, TOKEN, Journal, Pod, pod, python, read_until, reused, shell

from executor_runner.protocol import CALL_PATH, DONE_PATH, RETIRE_PATH, TOKEN_HEADER
from executor_runner.protocol.frames import FrameKind
from executor_runner.protocol.podlog import parse, unseal

STATE = """
import os, sys
print(os.getpid(), os.getcwd(), len(sys.modules), hasattr(os, "mark"), sorted(os.environ), os.listdir("."),
      os.listdir(os.environ["HOME"]), os.listdir(os.environ["TMPDIR"]), os.umask(0o22), oct(os.stat(".").st_mode))
"""
SPOIL = """
import json.tool, os, signal
os.mark = os.environ["LEFT"] = "1"
for folder in (".", os.environ["HOME"], os.environ["TMPDIR"], ".."):
    os.makedirs(folder + "/deep/er")
    open(folder + "/deep/er/file", "w").close()
    os.symlink("/etc", folder + "/link")
    os.chmod(folder + "/deep", 0)
os.chmod(".", 0o700)
os.umask(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.chdir("/")
"""


def _refused(sandbox: Pod, call: dict[str, Any]) -> tuple[int, bytes]:
    return sandbox.ask("POST", body=json.dumps(call).encode())


def _descriptors(sandbox: Pod) -> int:
    return len(list(Path(f"/proc/{sandbox.process.pid}/fd").iterdir()))


def test_a_call_finds_nothing_of_the_one_before(sandbox: Pod) -> None:
    """Files, folders, modules, variables, signals and the working directory are as in a sandbox nobody had used."""
    first = sandbox.run(python(STATE, **reused())).stdout.split(b" ", 1)
    assert sandbox.run(python(SPOIL, env={"LEFT": "0"}, **reused("e1", "e2"))).report["exit_code"] == 0
    second = sandbox.run(python(STATE, **reused("e2", "e3"))).stdout.split(b" ", 1)
    assert first[0] != second[0]
    assert first[1] == second[1]
    eventually(lambda: sorted(path.name for path in sandbox.root.iterdir()) == ["home", "tmp", "work"])


def test_processes_of_a_call_are_gone_before_the_next(sandbox: Pod) -> None:
    """Daemons with sessions of their own and children nobody waits for end with the call that left them."""
    marked = Marked()
    command = f"setsid {marked.sleeper()} & (setsid setsid {marked.sleeper()} &) ; sleep 0.1; true"
    report = sandbox.run(shell(command, **reused())).report
    assert report["processes"]["left_behind"] >= 2
    assert marked.pids() == []
    assert sandbox.run(shell("echo next", **reused("e1", "e2"))).report["processes"]["left_behind"] == 0


def test_each_call_reports_for_itself(sandbox: Pod) -> None:
    """Output, usage, log and termination message are those of the latest call, which alone answers to its name."""
    grow = "kept = b'x' * (200 << 20); print('large')"
    assert sandbox.run(python(grow, **reused())).report["usage"]["peak_memory_bytes"] > 200 << 20
    journal = sandbox.run(shell("echo small; exit 3", **reused("e1", "e2")))
    report = journal.report
    assert (journal.stdout, report["execution_id"], report["exit_code"]) == (b"small\n", "e2", 3)
    assert report["usage"]["peak_memory_bytes"] < 100 << 20
    assert unseal(TOKEN, sandbox.copies()[0]) == report
    copy = parse(TOKEN, sandbox.copies()[1].split(b"\n"))
    assert copy.report == report
    assert copy.frames == [(FrameKind.STDOUT, b"small\n")]
    assert sandbox.ask("GET", f"{CALL_PATH}?execution=e2&offset=0") == (200, journal.data)
    assert sandbox.ask("GET", OURS) == (409, b"claimed by e2\n")


def test_the_output_of_a_call_is_no_other_call_s_when_the_pod_is_lost(sandbox: Pod) -> None:
    """However soon a call loses its container, the log has the end of the one before, and so tells them apart."""
    sandbox.run(shell("echo first; sleep 0.4", **reused()))
    with sandbox.start(shell("echo second; sleep 60", **reused("e1", "e2"))) as stream:
        read_until(stream, b"second")
        sandbox.process.kill()
        sandbox.process.wait(SECONDS)
    copy = parse(TOKEN, sandbox.log.read_bytes().split(b"\n"))
    assert copy.report is None or copy.report["execution_id"] == "e1"
    assert (copy.report is not None) == ((FrameKind.STDOUT, b"first\n") in copy.frames)


def test_a_log_of_a_call_that_did_not_begin_has_no_output_of_another(sandbox: Pod) -> None:
    """A call whose setup failed has nothing in the log but its report."""
    sandbox.run(shell("echo first", **reused()))
    report = sandbox.run(shell("true", files={"../a": ""}, **reused("e1", "e2"))).report
    assert report["cause"] == "setup_failed"
    copy = parse(TOKEN, sandbox.copies()[1].split(b"\n"))
    assert (copy.report, copy.frames) == (report, [])


@pytest.mark.parametrize(
    "wrong",
    [reused("e1", "e2", tenant="t2"), reused("", "e2"), reused("e0", "e2"), {"execution_id": "e2", "reuse": None}],
    ids=["tenant", "first", "follows", "single-use"],
)
def test_who_must_not_follow_is_told_whose_it_is(sandbox: Pod, wrong: dict[str, Any]) -> None:
    """Another tenant, a caller that does not know the last call, and a single-use call are refused; its own is not."""
    sandbox.run(shell("true", **reused()))
    assert _refused(sandbox, shell("echo no", **wrong)) == (409, b"claimed by e1\n")
    assert sandbox.run(shell("echo yes", **reused("e1", "e2"))).stdout == b"yes\n"


def test_a_call_does_not_follow_one_that_runs(sandbox: Pod) -> None:
    """Before the report nobody gets the sandbox, whatever he knows."""
    with sandbox.start(shell("echo on; sleep 60", **reused())) as stream:
        read_until(stream, b"on\n")
        assert _refused(sandbox, shell("true", **reused("e1", "e2"))) == (409, b"claimed by e1\n")
        sandbox.ask("DELETE")
        stream.read()
    assert sandbox.run(shell("echo yes", **reused("e1", "e2"))).stdout == b"yes\n"


def test_a_first_call_that_follows_another_is_refused(sandbox: Pod) -> None:
    """A caller that takes the sandbox for one it has used before is wrong about it."""
    assert _refused(sandbox, shell("true", **reused("e0")))[0] == 409
    assert _refused(sandbox, {**shell("true"), "reuse": {"tenant": "t1"}})[0] == 400
    assert sandbox.run(shell("echo yes")).stdout == b"yes\n"


def test_a_single_use_call_is_the_last(sandbox: Pod) -> None:
    """A call without reuse is never followed."""
    sandbox.run(shell("true"))
    assert _refused(sandbox, shell("true", **reused("e1", "e2"))) == (409, b"claimed by e1\n")


def test_done_ends_it_and_retiring_does_not(sandbox: Pod) -> None:
    """A runner that has had a call is ended by the one who knows that call, not by whoever retires idle ones."""
    sandbox.run(shell("true", **reused()))
    sandbox.run(shell("true", **reused("e1", "e2")))
    assert sandbox.ask("POST", RETIRE_PATH) == (409, b"claimed by e2\n")
    assert sandbox.ask("POST", f"{DONE_PATH}?execution=e1")[0] == 409
    assert sandbox.ask("POST", f"{DONE_PATH}?execution=e2")[0] == 204
    assert sandbox.process.wait(SECONDS) == 0


def test_it_stays_between_calls_and_leaves_when_idle(sandbox: Pod) -> None:
    """It does not leave as a single-use runner does whose report was read, but after its idle time."""
    sandbox.run(shell("true", **reused()))
    with pytest.raises(psutil.TimeoutExpired):
        psutil.Process(sandbox.process.pid).wait(3)
    sandbox.run(shell("true", **reused("e1", "e2", idle_seconds=0.2)))
    assert sandbox.process.wait(SECONDS) == 0


def _kill_spare(sandbox: Pod) -> None:
    eventually(sandbox.below)
    (spare,) = sandbox.below()
    spare.kill()


def _nothing(_sandbox: Pod) -> None:
    """The call itself has done it."""


@pytest.mark.parametrize(
    ("command", "limits", "afterwards"),
    [
        ("mv ../../root ../../moved; mkdir ../../root", {}, _nothing),
        ("rm -rf ../../root", {}, _nothing),
        ("true", {}, _kill_spare),
        ("head -c 30000000 /dev/zero", {"output_bytes": 60 << 20, "memory_bytes": 64 << 20}, _nothing),
    ],
    ids=["moved", "deleted", "spare", "memory"],
)
def test_any_doubt_retires_it(
    sandbox: Pod, command: str, limits: dict[str, int], afterwards: Callable[[Pod], None]
) -> None:
    """It reports, takes no call any more, lets the report be read, and leaves."""
    sandbox.run(shell("true", limits=limits, **reused()))
    report = sandbox.run(shell(command, limits=limits, **reused("e1", "e2"))).report
    assert report["execution_id"] == "e2"
    afterwards(sandbox)
    assert sandbox.process.wait(SECONDS) == 0


def test_a_retired_runner_refuses_and_still_tells(tmp_path: Path) -> None:
    """What it must not serve any more gets 409, and the last journal can be read until somebody has it."""
    with pod(tmp_path / "pod") as sandbox:
        journal = sandbox.run(shell("rm -rf ../../root; echo last", **reused()))
        assert _refused(sandbox, shell("true", **reused("e1", "e2"))) == (409, b"claimed by e1\n")
        assert sandbox.resume().data == journal.data


def test_nothing_adds_up(sandbox: Pod) -> None:
    """Two hundred calls leave one spare, no zombie and no descriptor more than two."""
    for number in range(2):
        sandbox.run(shell("true", **reused(f"e{number}" if number else "", f"e{number + 1}")))
    eventually(lambda: len(sandbox.below()) == 1)
    before = _descriptors(sandbox)
    for number in range(2, 202):
        call = (
            shell("sleep 60 & touch x") if number % 2 else python("import threading; print(threading.active_count())")
        )
        sandbox.run({**call, **reused(f"e{number}", f"e{number + 1}")})
    eventually(lambda: _descriptors(sandbox) == before and len(sandbox.below()) == 1)
    assert [process.status() for process in sandbox.below()] != [psutil.STATUS_ZOMBIE]


def test_the_spare_holds_no_connection(sandbox: Pod) -> None:
    """What the runner closes is closed, though a spare was forked while it was open."""
    sandbox.run(shell("true", **reused()))
    eventually(sandbox.below)
    (spare,) = sandbox.below()
    eventually(lambda: not any("socket" in target for target in _targets(spare.pid)))  # it closes them as it begins


def _targets(pid: int) -> list[str]:
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed a moment ago
            found.append(str(descriptor.readlink()))
    return found


def _claim(connection: http.client.HTTPConnection, call: dict[str, Any], keep: str) -> http.client.HTTPResponse:
    headers = {TOKEN_HEADER: TOKEN, "Connection": keep}
    connection.request("POST", CALL_PATH, json.dumps(call).encode(), headers)
    return connection.getresponse()


def test_one_connection_serves_many_calls(sandbox: Pod) -> None:
    """A client that asks for it sends call after call on the connection it has."""
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=SECONDS)
    connection.connect()
    kept, last = connection.sock, ""
    for number in range(5):
        response = _claim(connection, shell(f"echo {number}", **reused(last, f"e{number}")), "keep-alive")
        assert response.headers["Connection"] == "keep-alive"
        assert Journal(response.read()).stdout == f"{number}\n".encode()
        last = f"e{number}"
    assert connection.sock is kept
    with _claim(connection, shell("echo end", **reused(last, "e9")), "close") as response:
        assert Journal(response.read()).stdout == b"end\n"
        assert response.headers["Connection"] == "close"
    connection.close()


def test_a_single_use_call_closes_its_connection(sandbox: Pod) -> None:
    """Whatever the client asks for, there will be no other call."""
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=SECONDS)
    with _claim(connection, shell("true"), "keep-alive") as response:
        assert response.headers["Connection"] == "close"
        assert Journal(response.read()).report["exit_code"] == 0
    connection.close()


def test_a_preloaded_module_is_imported_once(tmp_path: Path) -> None:
    """Modules are there for every call, were imported by the runner, and what they print is in no output."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "counted.py").write_text(
        "import os\nprint('importing')\nby = os.getpid()\nopen(os.environ['F'], 'a').write('x')"
    )
    count = tmp_path / "count"
    environ = {"PYTHONPATH": str(modules), "EXECUTOR_PRELOAD": "counted,no_such_module", "F": str(count)}
    with pod(tmp_path / "pod", **environ) as sandbox:
        last = ""
        for name in ("e1", "e2", "e3"):
            journal = sandbox.run(python("import sys; print(sys.modules['counted'].by)", **reused(last, name)))
            assert journal.stdout == f"{sandbox.process.pid}\n".encode()
            last = name
        assert count.read_text() == "x"
        assert b"importing" not in sandbox.log.read_bytes()
