"""Traces of real calls on this machine, as a collector gets them from a real service."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.collector import Collector
from support.service import Service

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
ENVIRONMENT = "import os; print(os.environ.get('TRACEPARENT'), os.environ.get('TRACESTATE'))"
PHASES = ["queue", "claim", "record", "dispatch", "run", "collect", "settle"]


def traced(folder: Path, url: str, *flags: str, **environ: str) -> Service:
    """A service that sends its traces there, soon."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "20", **environ}
    return Service(folder, "--tracing", *flags, environ=variables)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as made:
        yield made


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Service]:
    with traced(tmp_path_factory.mktemp("data"), collector.url, "--max-concurrency", "1") as made:
        yield made


def execute(service: Service, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    """The answer to a call."""
    answer: dict[str, Any] = service.client.post("/execute", json=body, headers=headers).json()
    return answer


def test_a_call_joins_the_trace_of_its_caller(service: Service, collector: Collector) -> None:
    """Its span is below the caller's, its phases are below it and within it, and its code is told of it."""
    before = time.time()
    answer = execute(service, {"code": ENVIRONMENT}, traceparent=PARENT, tracestate="vendor=1")
    top, below = collector.tree(answer["id"])
    assert (top.trace_id, top.parent_id, top.state, top.kind) == (TRACE, SPAN, "vendor=1", "SERVER")
    assert answer["stdout"] == f"00-{TRACE}-{top.span_id}-01 vendor=1\n"
    assert [span.name for span in below if span.name != "create"] == PHASES
    until = top.start
    for span in below:
        assert until <= span.start <= span.end <= top.end
        until = span.end
    assert before <= top.start <= top.end <= time.time()
    run = next(span for span in below if span.name == "run")
    assert run.end - run.start == pytest.approx(answer["timings_ms"]["run"] / 1000, abs=1e-5)
    assert (top.name, top.failed) == ("execute_tool python", False)
    assert (top.attributes["gen_ai.operation.name"], top.attributes["executor.backend"]) == ("execute_tool", "local")
    assert (top.resource["service.name"], "service.version" in top.resource) == ("executor-api", True)
    service.wait_log(f'"trace_id": "{TRACE}"')


@pytest.mark.parametrize(
    ("body", "reason", "exit_code"),
    [({"command": "exit 3"}, "exit_code", 3), ({"command": "sleep 60", "timeout_seconds": 0.1}, "timeout", None)],
)
def test_a_call_that_failed(
    service: Service, collector: Collector, body: dict[str, Any], reason: str, exit_code: int | None
) -> None:
    """Its span and its run have the reason as their error, and nothing of what ran."""
    top, below = collector.tree(execute(service, body)["id"])
    assert [span.name for span in (top, *below) if span.failed] == ["execute_tool shell", "run"]
    assert (top.attributes["error.type"], top.attributes.get("process.exit.code")) == (reason, exit_code)
    assert top.parent_id == ""
    assert body["command"] not in repr((top, below))


def test_a_call_that_was_cancelled_in_the_queue(service: Service, collector: Collector) -> None:
    """It waited, was settled, and did not fail."""
    later = {"Prefer": "respond-async"}
    first = execute(service, {"command": "sleep 60"}, **later)
    waiting = execute(service, {"code": "1"}, **later)
    for execution in (waiting, first):
        service.client.delete(f"/executions/{execution['id']}")
    top, below = collector.tree(waiting["id"])
    assert [span.name for span in below] == ["queue", "settle"]
    assert (top.failed, top.attributes["executor.reason"]) == (False, "cancelled")


def test_a_repeated_request_is_one_call_in_one_trace(service: Service, collector: Collector) -> None:
    """The second request with an idempotency key finds the call of the first, which is in the first one's trace."""
    other = PARENT.replace("4b", "5c", 1)
    first = execute(service, {"code": "1"}, traceparent=PARENT, **{"Idempotency-Key": "k"})
    second = execute(service, {"code": "1"}, traceparent=other, **{"Idempotency-Key": "k"})
    last = execute(service, {"code": "2"})
    collector.tree(last["id"])
    assert first["id"] == second["id"]
    roots = [span for span in collector.spans() if span.attributes.get("executor.execution.id") == first["id"]]
    assert [root.trace_id for root in roots] == [TRACE]
    assert other.split("-")[1] not in collector.by_trace()


@pytest.mark.parametrize("value", ["00-$(id)-00f067aa0ba902b7-01", PARENT + "-x", "00-" + "0" * 32 + f"-{SPAN}-01"])
def test_a_malformed_context_begins_a_trace_of_its_own(service: Service, collector: Collector, value: str) -> None:
    """Nothing of it gets to the code, which is told of the call's own trace."""
    answer = execute(service, {"code": ENVIRONMENT}, traceparent=value, tracestate="vendor=1")
    top, _ = collector.tree(answer["id"])
    assert (answer["status"], top.parent_id) == ("succeeded", "")
    assert answer["stdout"] == f"00-{top.trace_id}-{top.span_id}-03 None\n"


def test_no_call_is_the_worse_for_a_collector_that_is_away(tmp_path: Path) -> None:
    """Nobody listens: calls succeed, the log says that spans were lost, and the service stops when told."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    with traced(tmp_path, url, OTEL_EXPORTER_OTLP_TIMEOUT="1") as service:
        answers = [execute(service, {"code": "print(1)"}) for _ in range(3)]
        service.wait_log("Failed to export")
        answers += [execute(service, {"code": "print(1)"}) for _ in range(3)]
    assert [answer["stdout"] for answer in answers] == ["1\n"] * 6
    assert service.process.returncode == 0


def test_no_call_is_the_worse_for_a_collector_that_keeps_silent(tmp_path: Path) -> None:
    """It takes requests and never answers: calls succeed, what waits is bounded, and the service stops when told."""
    with Collector() as collector:
        collector.silent = True
        patient = {"OTEL_EXPORTER_OTLP_TIMEOUT": "600", "OTEL_BSP_MAX_QUEUE_SIZE": "32"}
        with traced(tmp_path, collector.url, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="8", **patient) as service:
            answers = [execute(service, {"code": "print(1)"}) for _ in range(12)]
            service.wait_log("Queue full")
    assert [answer["stdout"] for answer in answers] == ["1\n"] * 12
    assert service.process.returncode == 0


def test_a_service_that_stops_waits_for_no_silent_collector(tmp_path: Path) -> None:
    """It took a connection and says nothing: the process is gone before the SDK by itself would give up, after 30 s."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.settimeout(60)
        with traced(tmp_path, url, OTEL_EXPORTER_OTLP_TIMEOUT="600") as service:
            assert execute(service, {"code": "print(1)"})["stdout"] == "1\n"
            with listener.accept()[0]:
                service.process.terminate()
                assert service.process.wait(25) == 0


def test_the_last_spans_are_sent_before_the_service_is_gone(tmp_path: Path) -> None:
    """Those that wait for their batch are flushed, from a queue that is smaller than a batch usually is, too."""
    with Collector() as collector:
        lasting = {"OTEL_BSP_SCHEDULE_DELAY": "600000", "OTEL_BSP_MAX_QUEUE_SIZE": "100"}
        with traced(tmp_path, collector.url, **lasting) as service:
            answer = execute(service, {"code": "print(1)"})
            assert collector.spans() == []
        assert service.process.returncode == 0
        collector.tree(answer["id"], 0)


def test_without_tracing_a_caller_and_its_code_share_their_trace(tmp_path: Path) -> None:
    """The context is passed on as it came, the log names the trace, and nothing is sent."""
    with (
        Collector() as collector,
        Service(tmp_path, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}) as service,
    ):
        answer = execute(service, {"code": ENVIRONMENT}, traceparent=PARENT, tracestate="vendor=1")
        assert answer["stdout"] == f"{PARENT} vendor=1\n"
        service.wait_log(f'"trace_id": "{TRACE}"')
        ended = [json.loads(line) for line in service.log if answer["id"] in line and "execution finished" in line]
        assert [line["trace_id"] for line in ended] == [TRACE]
    assert collector.spans() == []


def test_doctor_tries_the_collector() -> None:
    """Whether it takes traces; one that is away keeps no call from running, a setting that can't be followed does."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        nobody = f"http://127.0.0.1:{sock.getsockname()[1]}"
    with Collector() as collector:
        found = [
            _diagnosed(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url),
            _diagnosed(OTEL_EXPORTER_OTLP_ENDPOINT=nobody, OTEL_EXPORTER_OTLP_TIMEOUT="1"),
            _diagnosed(OTEL_EXPORTER_OTLP_PROTOCOL="grpc"),
        ]
    assert [item["verdict"] for item in found] == ["ok", "warn", "fail"]
    assert collector.spans() == []


def _diagnosed(**environ: str) -> dict[str, str]:
    command = [sys.executable, "-m", "executor_api", "doctor", "--tracing", "--json"]
    done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, check=False)
    (found,) = (item for item in json.loads(done.stdout) if item["check"] == "traces")
    return dict(found)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is 'http/json'"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"}, "tracing can't be set up: Invalid IPv6 URL"),
        (
            {"OTEL_BSP_SCHEDULE_DELAY": "0"},
            "OTEL_BSP_SCHEDULE_DELAY must be a whole number from 1 to 2147483647, not '0'",
        ),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "many"}, "OTEL_BSP_MAX_QUEUE_SIZE must be a whole number"),
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "101"},
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE is 101, and OTEL_BSP_MAX_QUEUE_SIZE 100: set it to 100 at most",
        ),
        ({}, "pip install 'executor-api[tracing]'"),
    ],
)
def test_what_cant_be_traced_is_said_at_start(tmp_path: Path, environ: dict[str, str], named: str) -> None:
    """A protocol that is not spoken, an address that is none, a missing package: what is wrong, and what to do."""
    missing = "sys.modules['opentelemetry.sdk'] = None; " if not environ else ""
    script = f"import sys; {missing}from executor_api.cli import main; main()"
    command = [sys.executable, "-c", script, "serve", "--tracing", "--port", "0", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, named in done.stderr) == (2, True), done.stderr
