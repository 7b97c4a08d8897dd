"""`executor-api serve` as a process, and the other commands against it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def server(shell: Any, data_dir: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A service on a free port with its URL, stopped at the end."""
    arguments = ("serve", "--port", "0", "--data-dir", str(data_dir), "--log-format", "json")
    with shell.start(*arguments, EXECUTOR_API_KEY="secret") as process:
        yield process, listening_url(process)
        process.send_signal(signal.SIGTERM)
        process.communicate()


def listening_url(process: subprocess.Popen[bytes]) -> str:
    """What the log says; every line of it is JSON until then."""
    assert process.stderr is not None
    for line in process.stderr:
        logged: dict[str, str] = json.loads(line)
        if logged["event"] == "listening":
            assert any("sandboxes get" in note for note in logged["notes"])
            return logged["url"]
    raise AssertionError("the service ended without listening")


def test_a_call_from_acceptance_to_its_record(shell: Any, server: tuple[Any, str]) -> None:
    """Run, list and get agree on one call, and SIGTERM ends the service well."""
    process, url = server
    service = {"EXECUTOR_URL": url, "EXECUTOR_API_KEY": "secret"}
    ran = shell.run("run", "-c", "printf 'a\\377'; echo e >&2; exit 7", "--label", "team=blue", **service)
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, b"a\xff", b"e\n")
    page = json.loads(shell.run("list", "--label", "team=blue", "--status", "failed", "--json", **service).stdout)
    (found,) = page["executions"]
    shown = shell.run("get", found["id"], **service).stdout.decode()
    assert "exit_code: 7" in shown
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0


def test_ctrl_c_reaches_the_call(shell: Any, server: tuple[Any, str]) -> None:
    """Interrupting the command line settles the execution as cancelled."""
    service = {"EXECUTOR_URL": server[1], "EXECUTOR_API_KEY": "secret"}
    with shell.start("run", "-c", "echo on; sleep 60", **service) as running:
        assert running.stdout.readline() == b"on\n"
        running.send_signal(signal.SIGINT)
        running.communicate()
    assert running.returncode == 130
    (found,) = json.loads(shell.run("list", "--json", **service).stdout)["executions"]
    assert found["status"] == "cancelled"


def test_refusals_of_the_real_service(shell: Any, server: tuple[Any, str]) -> None:
    """A missing key, a wrong field, a wrong filter and an unknown id are sentences, with exit code 2."""
    service = {"EXECUTOR_URL": server[1], "EXECUTOR_API_KEY": "secret"}
    results = [
        shell.run("run", "x", EXECUTOR_URL=server[1]),
        shell.run("run", "x", "--template", "nope", **service),
        shell.run("list", "--status", "done", **service),
        shell.run("get", "01JD0000000000000000000001", **service),
    ]
    assert [result.returncode for result in results] == [2, 2, 2, 2]
    sentences = [result.stderr.decode() for result in results]
    assert "API key" in sentences[0]
    assert sentences[1].startswith("executor-api: template: 'nope' is no template that you can use; there are: default")
    assert "(allowed: queued, starting, running" in sentences[2]
    assert sentences[3].count("\n") == 1


def test_a_second_service_on_the_same_data_is_refused(shell: Any, server: tuple[Any, str], data_dir: Path) -> None:
    """One sentence with the fix, exit code 2."""
    process, _ = server
    second = shell.run("serve", "--port", "0", "--data-dir", str(data_dir))
    assert second.returncode == 2
    assert second.stderr.decode().splitlines()[-1].startswith("executor-api: ")
    assert f"process {process.pid}" in second.stderr.decode()


def test_templates_with_a_mistake_are_refused(shell: Any, tmp_path: Path) -> None:
    """The service does not start; the sentence has the place."""
    path = tmp_path / "templates.yaml"
    path.write_text("templates:\n- name: x\n  imge: y\n")
    result = shell.run("serve", "--port", "0", "--data-dir", str(tmp_path / "d"), "--templates", str(path))
    assert result.returncode == 2
    assert (
        f"executor-api: {path}:3:3: templates[0].imge: unknown field; did you mean 'image'?" in result.stderr.decode()
    )
