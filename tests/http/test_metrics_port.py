"""Metrics and probes on a port of their own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from support.service import Service

KEY = {"Authorization": "Bearer key"}


@pytest.fixture
def port() -> int:
    """One that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        found: int = sock.getsockname()[1]
        return found


def test_metrics_and_probes_need_no_key_there(tmp_path: Path, port: int) -> None:
    """Nothing else is there, and on the main port the metrics still need a key."""
    with (
        Service(tmp_path, "--metrics-port", str(port), "--api-key", "key") as service,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as scraper,
    ):
        service.client.post("/execute", json={"command": "true"}, headers=KEY)
        for path in ("/healthz", "/readyz", "/metrics"):
            assert scraper.get(path).status_code == 200
        assert "executor_executions_accepted_total 1.0" in scraper.get("/metrics").text
        for path in ("/executions", "/execute", "/templates", "/docs", "/openapi.json"):
            answer = scraper.get(path, headers=KEY)
            assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
        assert scraper.post("/metrics").status_code == 405
        assert service.client.get("/metrics").status_code == 401
        assert service.client.get("/metrics", headers=KEY).status_code == 200


def test_on_loopback_it_answers_to_this_machine_by_name(tmp_path: Path, port: int) -> None:
    """A page whose name is made to resolve to loopback can't read it."""
    with Service(tmp_path, "--metrics-port", str(port)):
        answer = httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"Host": "evil.example"})
        assert answer.status_code == 403


def test_it_is_there_until_the_last_call_has_ended(tmp_path: Path, port: int) -> None:
    """While the service drains, a probe hears that it is stopping; then both ports are free and all ended well."""
    with Service(tmp_path, "--metrics-port", str(port)) as service:
        execution_id = service.submit({"command": "echo started; sleep 8"})
        service.wait_output(execution_id, "started")
        service.process.send_signal(signal.SIGTERM)
        service.wait_log("Shutting down")
        answer = httpx.get(f"http://127.0.0.1:{port}/metrics")
        assert "executor_inflight_executions 1.0" in answer.text
        assert service.process.wait(60) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/healthz")


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """The sentence names the flag of this port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        command = [sys.executable, "-m", "executor_api", "serve", "--port", "0", "--data-dir", str(tmp_path)]
        found = subprocess.run(
            [*command, "--metrics-port", taken], capture_output=True, text=True, timeout=60, check=False
        )
    assert found.returncode == 2
    assert f"can't listen on 127.0.0.1, port {taken}" in found.stderr
    assert "--metrics-port" in found.stderr
