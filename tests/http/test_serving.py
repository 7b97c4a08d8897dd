"""The service as a process: it starts with a sentence, and it ends well."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from support.service import Service

TEMPLATE = "templates:\n  - name: extra\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopping_service_answers_the_calls_that_run(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C let running calls end and be answered; then the process ends with 0 and its port is free."""
    with Service(tmp_path) as service:
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(_sleep_and_say(service.url)))
        asking.start()
        [running] = _running(service)
        service.wait_output(running, "started")
        service.process.send_signal(number)
        asking.join(90)
        assert answers[0].json()["stdout"] == "started\nended\n"
        assert service.process.wait(60) == 0
        with pytest.raises(httpx.ConnectError):
            service.client.get("/healthz")


def test_a_stopping_service_does_not_wait_for_ever(tmp_path: Path) -> None:
    """Calls beyond the grace end with the service on the local backend, and their records say so."""
    with Service(tmp_path, "--shutdown-seconds", "0.2") as service:
        execution_id = service.submit({"command": "echo started; sleep 60"})
        service.wait_output(execution_id, "started")
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(60) == 0
    with Service(tmp_path) as service:
        found = service.get(execution_id)
    assert (found["status"], found["reason"], found["stdout"]) == ("failed", "sandbox_lost", "started\n")


def test_a_draining_service_takes_calls_and_ends_connections(tmp_path: Path) -> None:
    """For the drain it serves over kept connections and new ones, and says each time that this answer is the last."""
    with Service(tmp_path, "--drain-seconds", "6") as service:
        assert service.client.get("/healthz").headers.get("connection") != "close"
        service.process.send_signal(signal.SIGTERM)
        service.wait_log("draining")
        for _ in range(3):
            answer = service.client.post("/execute", json={"command": "echo served"})
            assert (answer.json()["stdout"], answer.headers["connection"]) == ("served\n", "close")
        assert service.process.wait(60) == 0


def test_templates_are_read_anew_on_sighup(tmp_path: Path) -> None:
    """A good file replaces the set; a file with a mistake keeps the old one."""
    file = tmp_path / "templates.yaml"
    file.write_text("templates: []\n")
    with Service(tmp_path / "data", "--templates", str(file)) as service:
        for text, log_line, names in (
            (TEMPLATE, "templates reloaded", ["default", "extra"]),
            ("templates:\n  - name: UPPER\n", "templates not reloaded", ["default", "extra"]),
        ):
            file.write_text(text)
            service.process.send_signal(signal.SIGHUP)
            service.wait_log(log_line)
            found = service.client.get("/templates").json()["templates"]
            assert sorted(template["name"] for template in found) == names


def test_limits_of_tenants_are_read_anew_on_sighup(tmp_path: Path) -> None:
    """They hold from the start; others take their place; a file with a mistake, as one without, changes nothing."""
    file = tmp_path / "tenants.yaml"
    file.write_text("default: {rate: 0.01, burst: 1}\n")
    with Service(tmp_path / "data", "--tenants", str(file)) as service:
        calls = [service.client.post("/execute", json={"command": "true"}) for _ in range(2)]
        assert [call.status_code for call in calls] == [200, 429]
        for text, log_line in (("default: {}\n", "tenants reloaded"), ("defaults: {}\n", "tenants not reloaded")):
            file.write_text(text)
            service.process.send_signal(signal.SIGHUP)
            service.wait_log(log_line)
            assert service.client.post("/execute", json={"command": "true"}).status_code == 200
    found = _serve(tmp_path, "--tenants", str(file))
    assert found.returncode != 0
    assert f"{file}:1:1: defaults: unknown field; did you mean 'default'?" in found.stderr


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--host", "0.0.0.0"), "EXECUTOR_API_KEY"),  # noqa: S104  refused is the point
        (("--host", "203.0.113.1", "--api-key", "k"), "can't listen on 203.0.113.1"),
        (("--host", "no.such.host.invalid", "--api-key", "k"), "can't listen on no.such.host.invalid"),
    ],
)
def test_where_it_must_not_or_cannot_listen_it_says_so(tmp_path: Path, flags: tuple[str, ...], sentence: str) -> None:
    """One sentence on standard error with the way out, no traceback, and a failing exit code."""
    found = _serve(tmp_path, *flags)
    assert found.returncode not in (0, -signal.SIGTERM)
    assert sentence in found.stderr
    assert "Traceback" not in found.stderr


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """Another program on the port is the commonest mistake."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        found = _serve(tmp_path, "--port", port)
    assert found.returncode != 0
    assert f"can't listen on 127.0.0.1, port {port}" in found.stderr
    assert "Traceback" not in found.stderr


def test_logs_are_json_lines(tmp_path: Path) -> None:
    """Every line is one JSON object; an execution leaves one with its id and ending, and nothing of its contents.

    So does the audit log, with the address of the peer and not the one that a header names.
    """
    with Service(tmp_path, "--log-format", "json") as service:
        request = {"command": "echo hush; exit 3", "env": {"A": "hush"}, "stdin": "hush"}
        execution_id = service.execute(request, **{"X-Forwarded-For": "203.0.113.9"})["id"]
        for line in ('"audit"', '"execution finished"'):
            service.wait_log(line)
    assert "hush" not in "".join(service.log)
    events = [json.loads(line) for line in service.log]
    (ended,) = [event for event in events if event["event"] == "execution finished"]
    assert (ended["execution"], ended["reason"], ended["level"]) == (execution_id, "exit_code", "info")
    (audited,) = [event for event in events if event["logger"] == "audit"]
    assert (audited["execution"], audited["reason"], audited["address"]) == (execution_id, "exit_code", "127.0.0.1")


def _sleep_and_say(url: str) -> httpx.Response:
    return httpx.post(f"{url}/execute", json={"command": "echo started; sleep 3; echo ended"}, timeout=90)


def _running(service: Service) -> list[str]:
    while not (found := service.client.get("/executions?status=running").json()["executions"]):
        pass
    return [execution["id"] for execution in found]


def _serve(tmp_path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "executor_api", "serve", "--data-dir", str(tmp_path), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
