"""`executor-api run` without a service: real calls on this machine."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest


@pytest.mark.parametrize(
    ("arguments", "stdout", "stderr", "code"),
    [
        (["print(1)"], b"1\n", b"", 0),
        (["-c", "echo out; echo err >&2; exit 7"], b"out\n", b"err\n", 7),
        (["--", "printf", r"a\377b\000"], b"a\xffb\x00", b"", 0),
        (["-l", "bash", "echo ${BASH_VERSION:+bash}"], b"bash\n", b"", 0),
        (["-e", "A=b c", "-c", 'echo "$A"'], b"b c\n", b"", 0),
        (["-c", "kill -SEGV $$"], b"", b"executor-api: signal: ended by SIGSEGV\n", 139),
    ],
)
def test_endings(shell: Any, arguments: list[str], stdout: bytes, stderr: bytes, code: int) -> None:
    """Output comes out byte for byte, each stream on its own, and the exit code is the call's."""
    result = shell.run("run", *arguments)
    assert (result.stdout, result.stderr, result.returncode) == (stdout, stderr, code)


def test_a_timeout_keeps_the_output(shell: Any) -> None:
    """What was printed before the end is there, the exit code is 124, and the sentence says why."""
    result = shell.run("run", "-t", "0.3", "-c", "echo before; exec sleep 60")
    assert (result.stdout, result.returncode) == (b"before\n", 124)
    assert result.stderr.startswith(b"executor-api: timeout: ")


def test_an_exception_shows_its_traceback(shell: Any) -> None:
    """Python's own words on standard error, nothing of ours, exit code 1."""
    result = shell.run("run", "raise ValueError('x')")
    assert result.returncode == 1
    assert result.stderr.endswith(b"ValueError: x\n")
    assert b"executor-api:" not in result.stderr


def test_standard_input_from_a_pipe(shell: Any) -> None:
    """`--stdin-file -` hands our standard input to the call."""
    result = shell.run("run", "print(input()[::-1])", "--stdin-file", "-", stdin=b"abc\n")
    assert result.stdout == b"cba\n"


def test_output_arrives_while_the_call_runs_and_ctrl_c_ends_it(shell: Any) -> None:
    """The first line comes before the end; Ctrl-C leaves with 130 and the call's process is gone."""
    seconds = f"60.{os.getpid()}{time.monotonic_ns()}"  # nobody else sleeps that long
    with shell.start("run", "-c", f"echo on; exec sleep {seconds}") as process:
        assert process.stdout.readline() == b"on\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate() == (b"", b"")
    assert process.returncode == 130
    assert not any(seconds in " ".join(found.info["cmdline"] or ()) for found in psutil.process_iter(["cmdline"]))


def test_templates_of_a_file(shell: Any, tmp_path: Path) -> None:
    """A template of `--templates` can be chosen, and a mistake in the file is placed."""
    path = tmp_path / "templates.yaml"
    path.write_text("templates:\n- name: own\n  env: {GREETING: hello}\n")
    result = shell.run("run", "--template", "own", "-c", "echo $GREETING", EXECUTOR_TEMPLATES=str(path))
    assert result.stdout == b"hello\n"
    path.write_text("templates:\n- name: Own\n")
    result = shell.run("run", "x", "--templates", str(path))
    assert result.returncode == 2
    assert result.stderr.startswith(f"executor-api: {path}:2:9: ".encode())


def test_a_refused_request(shell: Any) -> None:
    """A field that its template does not take is named, exit code 2."""
    result = shell.run("run", "-l", "cobol", "x")
    assert result.returncode == 2
    assert result.stderr.startswith(b"executor-api: language: 'cobol' is not offered")


def test_a_reader_that_leaves_ends_the_call(shell: Any) -> None:
    """Endless output into a closed pipe ends at once and quietly."""
    with shell.start("run", "-c", "yes") as process:
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
