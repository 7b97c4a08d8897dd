"""A release of the chart, called through its Service as an agent would."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import httpx_sse
import pytest
from kubernetes import client, config
from support.caller import Caller

pytestmark = pytest.mark.cluster

NAMESPACE = os.environ.get("EXECUTOR_TEST_NAMESPACE", "executor")
RELEASE = "app.kubernetes.io/part-of=executor,app.kubernetes.io/component!=metrics"
FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")
CALLS_AT_ONCE = 6


class Installed(Caller):
    """A service with the key that it wants."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=180)


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    """The service of $EXECUTOR_TEST_URL and $EXECUTOR_TEST_API_KEY; what is not given comes from the cluster."""
    url, key = os.environ.get("EXECUTOR_TEST_URL"), os.environ.get("EXECUTOR_TEST_API_KEY")
    with contextlib.ExitStack() as stack:
        service = "" if url and key else _service()
        found = Installed(url or stack.enter_context(_forwarded(service)), key or _key(service))
        with found.client:
            yield found


def _service() -> str:
    """The name of the release's Service."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG is not set: this test needs a cluster with the chart on it")
    config.load_kube_config()
    services = client.CoreV1Api().list_namespaced_service(NAMESPACE, label_selector=RELEASE).items
    if not services:
        pytest.skip(f"no release of charts/executor in namespace {NAMESPACE} (EXECUTOR_TEST_NAMESPACE): `make install`")
    name: str = services[0].metadata.name
    return name


def _key(service: str) -> str:
    secret = client.CoreV1Api().read_namespaced_secret(f"{service}-api-key", NAMESPACE)
    return base64.b64decode(secret.data["api-key"]).decode()


@contextlib.contextmanager
def _forwarded(service: str) -> Iterator[str]:
    """The URL of a free port of this machine that leads to the Service."""
    command = ["kubectl", "port-forward", "--namespace", NAMESPACE, f"service/{service}", ":http"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
        try:
            said = forward.stdout.readline() if forward.stdout else ""
            port = FORWARDING.match(said)
            assert port, f"kubectl port-forward said {said!r}"
            yield f"http://127.0.0.1:{port[1]}"
        finally:
            forward.terminate()


def test_a_call_runs_in_a_pod(installed: Installed) -> None:
    """A function with a file gives its value, its output and a file back, from a pod of its own."""
    code = """
def f(x):
    print(open("in.txt").read())
    open("out.txt", "w").write("made here")
    return x * 2
"""
    call = {"code": code, "function": "f", "args": [21], "files": {"in.txt": "sent along"}, "artifacts": ["*.txt"]}
    answer = installed.execute(call)
    assert (answer["status"], answer["value"], answer["stdout"]) == ("succeeded", 42, "sent along\n"), answer
    assert answer["artifacts"]["out.txt"] == "made here"
    assert answer["sandbox"]["pod"]


def test_nobody_gets_in_without_the_key(installed: Installed) -> None:
    """No key and a wrong one get 401, on every way to run or read something; health is open to probes."""
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        for method, path in (("POST", "/execute"), ("GET", "/executions"), ("GET", "/pool"), ("GET", "/metrics")):
            answer = httpx.request(method, installed.url + path, headers=headers, timeout=30)
            assert (answer.status_code, method, path) == (401, method, path)
    assert httpx.get(f"{installed.url}/readyz", timeout=30).status_code == 200


def test_a_call_that_fails_says_why(installed: Installed) -> None:
    """Exit code, timeout and exception come back as an answer, with the output until then."""
    answer = installed.execute({"command": "echo before; exit 3"})
    assert (answer["reason"], answer["exit_code"], answer["stdout"]) == ("exit_code", 3, "before\n")
    answer = installed.execute({"command": "echo before; sleep 60", "timeout_seconds": 1})
    assert (answer["reason"], answer["stdout"]) == ("timeout", "before\n")
    answer = installed.execute({"code": "print('before'); 1 / 0"})
    assert (answer["reason"], answer["exception"]["type"]) == ("exception", "ZeroDivisionError")


def test_a_call_can_be_left_and_cancelled(installed: Installed) -> None:
    """A call that nobody waits for runs on, can be read meanwhile, and ends when told to."""
    execution_id = installed.submit({"command": "echo before; sleep 60"})
    installed.wait_output(execution_id, "before")
    installed.client.delete(f"/executions/{execution_id}")
    assert installed.wait(execution_id)["status"] == "cancelled"


def test_a_call_can_be_watched(installed: Installed) -> None:
    """Output comes as events, before the end."""
    headers = {"Accept": "text/event-stream"}
    call = {"command": "echo one; sleep 1; echo two"}
    with httpx_sse.connect_sse(installed.client, "POST", "/execute", json=call, headers=headers) as source:
        events = list(source.iter_sse())
    output = [event.json()["text"] for event in events if event.event == "stdout"]
    assert ("".join(output), len(output)) == ("one\ntwo\n", 2)
    assert events[-1].json()["status"] == "succeeded"


def test_calls_at_once_stay_apart(installed: Installed) -> None:
    """Several calls at once each answer for themselves, from as many pods."""
    calls = [{"code": f"print({number})"} for number in range(CALLS_AT_ONCE)]
    with ThreadPoolExecutor(CALLS_AT_ONCE) as threads:
        answers = list(threads.map(installed.execute, calls))
    assert [answer["stdout"] for answer in answers] == [f"{number}\n" for number in range(CALLS_AT_ONCE)]
    assert len({answer["sandbox"]["pod"] for answer in answers}) == CALLS_AT_ONCE
