"""The monitor as a command, over real HTTP."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.proc_tree import ProcTree

from executor_api.errors import ConfigurationError
from executor_api.processes.endpoint import Endpoint
from executor_api.processes.monitor import Monitor
from executor_api.processes.scope import Machine

COMMAND = (sys.executable, "-m", "executor_api", "monitor")


@dataclass
class Running:
    """The command, listening."""

    process: subprocess.Popen[str]
    url: str

    def scrape(self) -> dict[str, float]:
        """Samples that have no label, once there was a look."""
        deadline = time.monotonic() + 60
        while True:
            answer = httpx.get(f"{self.url}/metrics", timeout=60)
            families = text_string_to_metric_families(answer.text)
            found = {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}
            if found["agent_monitor_looks_total"]:
                return found
            assert time.monotonic() < deadline
            time.sleep(0.05)


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[Running]:
    """The command on a free port until the block ends."""
    with subprocess.Popen([*COMMAND, "--port", "0", *arguments], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.endswith("/metrics\n"), line
            yield Running(process, line.split()[-1].removesuffix("/metrics"))
        finally:
            process.kill()


def test_prometheus_scrapes_the_machine() -> None:
    """Figures of this machine and of the monitor itself come in the text format; a probe hears that all is well."""
    with running() as monitor:
        found = monitor.scrape()
        assert found["agent_processes"] > 1
        assert {"agent_zombie_processes", "agent_pids_limit", "process_resident_memory_bytes"} <= set(found)
        answer = httpx.get(f"{monitor.url}/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert httpx.get(f"{monitor.url}/healthz").text == "ok\n"
        assert httpx.get(f"{monitor.url}/healthz?x=1").status_code == 200
        assert httpx.get(f"{monitor.url}/other").status_code == 404
        assert httpx.post(f"{monitor.url}/metrics").status_code == 501


def test_it_reads_another_tree(tmp_path: Path) -> None:
    """A proc file system that is mounted elsewhere is told of instead of its own."""
    proc = ProcTree(tmp_path)
    for pid in range(100, 130):
        proc.add(pid, state="Z")
    with running("--proc", str(proc)) as monitor:
        found = monitor.scrape()
        assert (found["agent_processes"], found["agent_zombie_processes"]) == (31, 30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_and_well(number: signal.Signals) -> None:
    """Also while a client has sent half a request, nothing is waited for."""
    with running() as monitor, socket.create_connection(_place(monitor.url)) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        monitor.scrape()
        monitor.process.send_signal(number)
        assert monitor.process.wait(4) == 0


def test_a_look_that_hangs_keeps_nothing_from_ending_it(tmp_path: Path) -> None:
    """While a read of the tree never returns, scrapes are answered and SIGTERM ends it."""
    proc = ProcTree(tmp_path)
    os.mkfifo(tmp_path / "hung")
    proc.add(7)
    (tmp_path / "7/stat").unlink()
    (tmp_path / "7/stat").symlink_to(tmp_path / "hung")
    with running("--proc", str(proc)) as monitor:
        assert "agent_monitor_looks_total 0.0" in httpx.get(f"{monitor.url}/metrics").text
        monitor.process.send_signal(signal.SIGTERM)
        assert monitor.process.wait(4) == 0


def test_a_silent_client_keeps_no_other_waiting() -> None:
    """Connections that say nothing, more than there are threads, end in seconds, and then a probe is answered."""
    with running() as monitor, contextlib.ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(socket.create_connection(_place(monitor.url)))
        assert httpx.get(f"{monitor.url}/healthz", timeout=60).status_code == 200


def test_a_request_that_can_not_be_read_ends_no_thread() -> None:
    """One of a version that is no number gets plain text, and so do more of them than there are threads."""
    with running() as monitor:
        monitor.scrape()
        for kind in ("text/plain;version=a.b", "application/openmetrics-text;version=x") * 3:
            answer = httpx.get(f"{monitor.url}/metrics", headers={"Accept": kind}, timeout=60)
            assert (answer.status_code, "agent_zombie_processes" in answer.text) == (200, True)


def test_a_taken_port_is_said_with_the_way_out() -> None:
    """The sentence names the address, the port and the flags."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = _run("--port", str(port))
    assert done.returncode == 2
    assert done.stderr == (
        f"executor-api: can't listen on 127.0.0.1, port {port}: [Errno 98] Address already in use; "
        "choose others with --address and --port\n"
    )


def test_bad_arguments_are_said_with_the_way_out(tmp_path: Path) -> None:
    """A folder that is no proc file system, an address that is none and a port that is none are refused."""
    for arguments, sentence in (
        (("--proc", str(tmp_path)), f"{tmp_path} is no proc file system"),
        (("--address", "not an address"), "choose others with --address and --port"),
        (("--port", "70000"), "'--port'"),
    ):
        done = _run(*arguments)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr


def test_a_late_look_fails_the_probe(tmp_path: Path) -> None:
    """Without a good look for more than a minute, the probe says how late it is."""
    times = [0.0]
    monitor = Monitor(Machine(str(ProcTree(tmp_path))), clock=lambda: times[0])
    endpoint = Endpoint("127.0.0.1", 0, monitor)
    endpoint.serve_in_background()
    assert httpx.get(f"{endpoint.url}/healthz").status_code == 200
    times[0] = 90
    answer = httpx.get(f"{endpoint.url}/healthz")
    assert (answer.status_code, answer.text) == (503, "no look at the processes has ended in time; it is 90 s late\n")
    with pytest.raises(ConfigurationError, match="can't listen"):
        Endpoint("127.0.0.1", _place(endpoint.url)[1], monitor)


def _place(url: str) -> tuple[str, int]:
    parsed = httpx.URL(url)
    assert parsed.port is not None
    return parsed.host, parsed.port


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
