"""`executor-api run` with a service: what is sent, what is shown, what the exit code says, and what a cut does."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest


def finished(service: Any, number: int = 9, **changes: object) -> bytes:
    event: bytes = service.event("finished", service.execution(**changes), number)
    return event


def test_output_arrives_as_it_comes(service: Any, shell: Any) -> None:
    """The first line is on standard output while the call still runs, the error stream apart from it."""
    gate = threading.Event()
    service.will_stream(
        service.event("status", {"status": "running"}, 1),
        service.event("stdout", {"text": "one\n"}, 2),
        gate,
        service.event("stderr", {"text": "two\n"}, 3),
        finished(service),
    )
    with shell.start("run", "print(1)", "--url", service.url) as process:
        assert process.stdout.readline() == b"one\n"
        assert process.poll() is None
        gate.set()
        stdout, stderr = process.communicate()
    assert (stdout, stderr, process.returncode) == (b"", b"two\n", 0)


def test_bytes_go_through_untouched(service: Any, shell: Any) -> None:
    """Binary output, and text with every kind of line break there is, come out as the call wrote them."""
    text = "a\u2028b\u2029c\x85d\x0be\r\nf\rg"
    service.will_stream(
        service.event("stdout", {"base64": "/wD+"}, 1), service.event("stdout", {"text": text}, 2), finished(service)
    )
    result = shell.run("run", "x", "--url", service.url)
    assert result.stdout == b"\xff\x00\xfe" + text.encode()
    assert result.stderr == b""


def test_the_request_has_what_was_given_and_no_more(service: Any, shell: Any, tmp_path: Path) -> None:
    """Options become fields of the body; the key of the service goes along."""
    (tmp_path / "script.sh").write_text("echo $A\n")
    (tmp_path / "input").write_text("in\n")
    service.will_stream(finished(service))
    options = ["--timeout", "5", "--template", "gpu", "-e", "A=1=2", "--label", "team=blue"]
    files = ["--file", str(tmp_path / "script.sh"), "--stdin-file", str(tmp_path / "input")]
    shell.run("run", *options, *files, EXECUTOR_URL=service.url, EXECUTOR_API_KEY="secret")
    (request,) = service.seen
    assert (request.method, request.path) == ("POST", "/v1/executions")
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.body == {
        "code": "echo $A\n",
        "language": "bash",
        "stdin": "in\n",
        "timeout_seconds": 5.0,
        "template": "gpu",
        "env": {"A": "1=2"},
        "labels": {"team": "blue"},
    }


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (["print(1)"], {"code": "print(1)"}),
        (["-"], {"code": "from stdin"}),
        (["--file", "-", "-l", "bash"], {"code": "from stdin", "language": "bash"}),
        (["-c", "df -h | sort"], {"command": "df -h | sort"}),
        (["--", "ls", "-l", "--", "x"], {"command": ["ls", "-l", "--", "x"]}),
    ],
)
def test_ways_to_say_what_to_run(service: Any, shell: Any, arguments: list[str], body: object) -> None:
    """Code as an argument or from standard input, a shell command, or an argv after `--`."""
    service.will_stream(finished(service))
    shell.run("run", "--url", service.url, *arguments, stdin=b"from stdin")
    assert service.seen[0].body == body


@pytest.mark.parametrize(
    ("changes", "code", "sentence"),
    [
        ({}, 0, ""),
        ({"status": "failed", "reason": "exit_code", "exit_code": 7, "message": "exit code 7"}, 7, ""),
        ({"status": "failed", "reason": "exception", "exit_code": 1, "message": "ValueError: x"}, 1, ""),
        (
            {
                "status": "failed",
                "reason": "signal",
                "exit_code": None,
                "signal": "SIGSEGV",
                "message": "ended by SIGSEGV",
            },
            139,
            "executor-api: signal: ended by SIGSEGV\n",
        ),
        (
            {"status": "failed", "reason": "signal", "exit_code": None, "signal": "signal 34", "message": "m"},
            162,
            "executor-api: signal: m\n",
        ),
        (
            {"status": "failed", "reason": "timeout", "exit_code": None, "signal": "SIGKILL", "message": "after 1 s"},
            124,
            "executor-api: timeout: after 1 s\n",
        ),
        (
            {"status": "failed", "reason": "out_of_memory", "exit_code": 1, "message": "used 512 MiB"},
            125,
            "executor-api: out_of_memory: used 512 MiB\n",
        ),
        (
            {"status": "cancelled", "reason": "cancelled", "exit_code": None, "message": "by request"},
            125,
            "executor-api: cancelled: by request\n",
        ),
    ],
)
def test_the_exit_code_tells_the_ending(
    service: Any, shell: Any, changes: dict[str, object], code: int, sentence: str
) -> None:
    """The call's own code, 128 + signal, 124 for a timeout, 125 for the rest, with a sentence where one is needed."""
    service.will_stream(finished(service, **changes))
    result = shell.run("run", "x", "--url", service.url)
    assert (result.returncode, result.stderr.decode()) == (code, sentence)


def test_dropped_output_is_told(service: Any, shell: Any) -> None:
    """Where bytes are missing, standard error says how many."""
    service.will_stream(service.event("gap", {"stream": "stdout", "dropped_bytes": 70}, 1), finished(service))
    result = shell.run("run", "x", "--url", service.url)
    assert result.stderr == b"executor-api: 70 bytes of stdout were dropped here\n"


def test_a_cut_stream_is_taken_up_where_it_broke(service: Any, shell: Any) -> None:
    """After a cut the events behind the last one are asked for; nothing is shown twice or started twice."""
    service.will_stream(service.event("stdout", {"text": "one "}, 4), b"id: 5\nevent: stdout\nda", cut=True)
    service.will_refuse(503, "starting")
    service.will_stream(service.event("stdout", {"text": "two"}, 5), finished(service))
    result = shell.run("run", "x", "--url", service.url)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"one two", b"")
    assert [request.method for request in service.seen] == ["POST", "GET", "GET"]
    assert service.seen[2].path == f"/v1/executions/{service.id}/events"
    assert service.seen[2].headers["Last-Event-ID"] == "4"


def test_ctrl_c_cancels_the_call(service: Any, shell: Any) -> None:
    """The call is ended at the service, its last output still shown, and the exit code is 130."""
    gate = threading.Event()
    service.will_stream(service.event("stdout", {"text": "one\n"}, 2), gate)
    service.will_answer(service.execution(status="running"))
    service.will_stream(
        service.event("stdout", {"text": "bye\n"}, 3), finished(service, status="cancelled", reason="cancelled")
    )
    with shell.start("run", "x", "--url", service.url) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate()
    gate.set()
    assert (process.returncode, stdout, stderr) == (130, b"bye\n", b"")
    assert service.seen[1].method == "DELETE"
    assert service.seen[1].path == f"/v1/executions/{service.id}"


def test_a_reader_that_leaves_cancels_the_call(service: Any, shell: Any) -> None:
    """When standard output is closed, as by `head`, the call is ended and nothing is complained about."""
    gate = threading.Event()
    service.will_stream(service.event("stdout", {"text": "one\n"}, 2), gate)
    service.will_answer(service.execution(status="running"))
    service.will_stream(service.event("stdout", {"text": "two\n"}, 3), finished(service, status="cancelled"))
    with shell.start("run", "x", "--url", service.url) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    gate.set()
    assert process.returncode == 141
    assert service.seen[1].method == "DELETE"


def test_a_refused_request_names_each_field(service: Any, shell: Any) -> None:
    """problem+json becomes a sentence a field, and exit code 2."""
    service.will_refuse(
        422,
        "two problems",
        {"field": "template", "message": "'x' does not exist", "allowed": ["default", "gpu"]},
        {"field": "", "message": "give exactly one of `code` and `command`"},
    )
    result = shell.run("run", "x", "--url", service.url)
    assert result.returncode == 2
    assert result.stderr.decode().splitlines() == [
        "executor-api: template: 'x' does not exist (allowed: default, gpu)",
        "executor-api: give exactly one of `code` and `command`",
    ]


def test_a_busy_service_says_when_to_come_back(service: Any, shell: Any) -> None:
    """429 and 503 are exit code 3; the call was not accepted, so it is not tried again by itself."""
    service.will_refuse(429, "64 calls run and 1000 wait", Retry_After="7")
    result = shell.run("run", "x", "--url", service.url)
    assert result.returncode == 3
    assert result.stderr == b"executor-api: 64 calls run and 1000 wait; try again in 7 s\n"


def test_a_missing_key_is_explained(service: Any, shell: Any) -> None:
    """401 names the option and the variable."""
    service.will_refuse(401, "no")
    result = shell.run("run", "x", "--url", service.url)
    assert result.returncode == 2
    assert b"--api-key or EXECUTOR_API_KEY" in result.stderr


def test_an_unreachable_service_is_explained(shell: Any) -> None:
    """Nobody listens: one sentence with the fix, exit code 3."""
    result = shell.run("run", "x", "--url", "http://127.0.0.1:1")
    assert result.returncode == 3
    assert result.stderr.startswith(b"executor-api: the service at http://127.0.0.1:1 can't be reached")
    assert b"executor-api serve" in result.stderr


def test_something_else_at_the_url(service: Any, shell: Any) -> None:
    """A server that is no executor-api, and a URL that is none, are told in one sentence."""
    service.will_say("<html>", 200)
    result = shell.run("run", "x", "--url", service.url)
    assert (result.returncode, result.stderr.count(b"\n")) == (2, 1)
    assert b"is it an executor-api?" in result.stderr
    result = shell.run("run", "x", "--url", "localhost:8000")
    assert (result.returncode, result.stderr.count(b"\n")) == (2, 1)
