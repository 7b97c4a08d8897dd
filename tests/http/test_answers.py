"""Executions over HTTP: asking, waiting, fetching, listing, cancelling."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.http_service import Service, ServiceMaker, gone
from support.playback import WAITING

from executor_runner.protocol.frames import FrameKind, encode_artifact, encode_json


async def test_a_finished_call_is_a_200_with_its_output(service: Service) -> None:
    """The answer of a synchronous call has everything, and the time of each phase in a header."""
    answer = await service.client.post("/execute", json={"code": "hello", "labels": {"a": "b"}, "timeout_seconds": 5})
    found = answer.json()
    assert answer.status_code == 200
    assert (found["status"], found["reason"], found["exit_code"], found["stdout"]) == ("succeeded", None, 0, "hello")
    assert (found["labels"], found["timeout_seconds"], found["template"]) == ({"a": "b"}, 5, "default")
    assert (found["start"], found["usage"]["peak_memory_bytes"]) == ("warm", 4096)
    phases = dict(phase.split(";dur=") for phase in answer.headers["server-timing"].split(", "))
    assert phases["run"] == "1.5"
    assert 0 < float(phases["accept"]) < float(phases["total"])
    assert float(phases["settle"]) > 0
    assert "location" not in answer.headers


async def test_a_failing_call_is_a_200_too(service: Service) -> None:
    """What the user's code did is data, not an HTTP error."""
    service.backend.scripts["boom"] = ([(FrameKind.STDERR, b"no\n")], {"exit_code": 7})
    answer = await service.client.post("/v1/executions", json={"code": "boom"})
    found = answer.json()
    assert (answer.status_code, found["status"], found["reason"], found["exit_code"]) == (200, "failed", "exit_code", 7)
    assert found["stderr"] == "no\n"


async def test_dropped_output_is_marked_and_counted(service: Service) -> None:
    """Head and tail are kept, and one line says exactly how much is missing between them."""
    gap = encode_json({"stream": 1, "dropped_bytes": 1000})
    frames = [(FrameKind.STDOUT, b"head"), (FrameKind.GAP, gap), (FrameKind.STDOUT, b"tail")]
    service.backend.scripts["long"] = (frames, {})
    found = (await service.client.post("/execute", json={"code": "long"})).json()
    assert found["stdout"] == "head\n[... 1000 bytes dropped ...]\ntail"
    assert (found["stdout_bytes"], found["stdout_dropped_bytes"], found["truncated"]) == (1008, 1000, True)


async def test_value_and_artifacts_come_back(service: Service) -> None:
    """A function's return is JSON, files are text or base64."""
    frames = [(FrameKind.ARTIFACT, encode_artifact("a.txt", b"x")), (FrameKind.ARTIFACT, encode_artifact("b", b"\xff"))]
    service.backend.scripts["def f(): ..."] = (frames, {"value_json": '{"answer":42}'})
    found = (await service.client.post("/execute", json={"code": "def f(): ...", "function": "f"})).json()
    assert found["value"] == {"answer": 42}
    assert found["artifacts"] == {"a.txt": "x", "b": {"base64": "/w=="}}


@pytest.mark.parametrize(
    ("path", "prefer", "location"),
    [
        ("/execute", "respond-async", "/executions/"),
        ("/v1/executions", "wait=0", "/v1/executions/"),
    ],
)
async def test_an_unfinished_call_is_a_202(service: Service, path: str, prefer: str, location: str) -> None:
    """Who does not want to wait gets the place to look at, and finds the result there later."""
    answer = await service.client.post(path, json={"code": WAITING}, headers={"Prefer": prefer})
    assert answer.status_code == 202
    assert answer.headers["location"] == location + answer.json()["id"]
    assert answer.headers["preference-applied"] == prefer
    await service.backend.waiting.wait()
    running = (await service.client.get(answer.headers["location"])).json()
    assert (running["status"], running["finished_at"]) == ("running", None)
    service.backend.release.set()
    finished = await service.client.get(answer.headers["location"], headers={"Prefer": "wait=20"})
    assert (finished.json()["status"], finished.json()["stdout"]) == ("succeeded", "waiting\n")


async def test_a_wait_that_runs_out_is_a_202_and_the_call_goes_on(make_service: ServiceMaker) -> None:
    """The longest wait of the service ends the waiting, not the call."""
    service = await make_service(sync_wait_seconds=0.05)
    answer = await service.client.post("/execute", json={"code": WAITING})
    assert answer.status_code == 202
    service.backend.release.set()
    finished = await _finished(service, answer.json()["id"])
    assert finished["status"] == "succeeded"


async def test_a_client_that_leaves_does_not_end_the_call(service: Service) -> None:
    """Nobody listens any more, the call goes on, and nothing of the request stays behind."""
    before = asyncio.all_tasks()
    async with service.connection() as (_, writer):
        body = b'{"code": "wait"}'
        fields = ("Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}")
        writer.write("\r\n".join(["POST /execute HTTP/1.1", *fields, "", ""]).encode() + body)
        await service.backend.waiting.wait()
    (listed,) = (await service.client.get("/executions")).json()["executions"]
    assert listed["status"] == "running"
    service.backend.release.set()
    assert (await _finished(service, listed["id"]))["status"] == "succeeded"
    await gone(asyncio.all_tasks() - before)


async def test_cancel_asks_once_and_may_be_asked_again(service: Service) -> None:
    """DELETE on a running call is a 202; on an ended one a 200 with how it ended."""
    execution_id = await service.waiting()
    first = await service.client.delete(f"/executions/{execution_id}")
    assert first.headers["location"] == f"/executions/{execution_id}"
    assert (first.status_code, first.json()["cancel_requested"]) == (202, True)
    finished = await _finished(service, execution_id)
    assert (finished["status"], finished["reason"], finished["stdout"]) == ("cancelled", "cancelled", "waiting\n")
    again = await service.client.delete(f"/v1/executions/{execution_id}")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")


async def test_an_idempotency_key_makes_one_call_of_many(service: Service) -> None:
    """The same key and body: the same execution, joined while it runs. Another body: 409."""
    headers = {"Idempotency-Key": "k"}
    first = await service.waiting(**headers)
    joined = asyncio.create_task(service.client.post("/execute", json={"code": WAITING}, headers=headers))
    other = await service.client.post("/execute", json={"code": "other"}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (409, "/problems/idempotency-conflict")
    service.backend.release.set()
    assert (await joined).json()["id"] == first
    assert (await service.client.post("/execute", json={"code": WAITING}, headers=headers)).json()["id"] == first
    assert len(service.backend.calls) == 1


async def test_traceparent_reaches_the_call(service: Service) -> None:
    """A valid trace context goes to the child; a broken one is as none."""
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for value in (parent, "broken"):
        await service.client.post("/execute", json={"code": "1"}, headers={"traceparent": value})
    assert [call["env"].get("TRACEPARENT") for call in service.backend.calls] == [parent, None]


async def test_the_list_pages_through_everything_once(service: Service) -> None:
    """Following ``Link`` from page to page shows every execution once, newest first, without output."""
    ids = [(await service.client.post("/execute", json={"code": str(n)})).json()["id"] for n in range(5)]
    seen, url = [], "/executions?limit=2&status=succeeded"
    while url:
        page = await service.client.get(url)
        seen += page.json()["executions"]
        assert ("next" in page.links) == (page.json()["next_cursor"] is not None)
        url = page.links["next"]["url"] if "next" in page.links else ""
    assert [item["id"] for item in seen] == ids[::-1]
    assert not {"stdout", "stderr", "value", "artifacts"} & set(seen[0])


async def test_the_list_filters(service: Service) -> None:
    """Labels, reason, template and time narrow the list down."""
    service.backend.scripts["boom"] = ([], {"exit_code": 7})
    await service.client.post("/execute", json={"code": "boom", "labels": {"a": "1", "b": "2"}})
    await service.client.post("/execute", json={"code": "fine", "labels": {"a": "1"}, "template": "gpu"})
    for query, count in (
        ("label=a=1", 2),
        ("label=a=1&label=b=2", 1),
        ("reason=exit_code", 1),
        ("status=failed&status=succeeded", 2),
        ("template=gpu", 1),
        ("created_before=2020-01-01T00:00:00Z", 0),
        ("created_after=2020-01-01T00:00:00Z", 2),
    ):
        assert len((await service.client.get(f"/executions?{query}")).json()["executions"]) == count, query


async def test_templates_say_what_may_be_asked(service: Service) -> None:
    """Clients see the choices and their limits."""
    templates = (await service.client.get("/templates")).json()["templates"]
    assert [template["name"] for template in templates] == ["default", "gpu"]
    assert templates[1]["gpu"] == {"count": 0, "max_count": 2, "resources": ["nvidia.com/gpu"], "shared": False}
    assert templates[0]["languages"] == ["python", "bash"]


async def test_probes_tell_life_from_readiness(service: Service) -> None:
    """A service that can't run calls is alive, not ready, and says why."""
    assert (await service.client.get("/readyz")).status_code == 200
    service.backend.problems = ("the cluster can't be reached; check --kubeconfig",)
    ready = await service.client.get("/readyz")
    assert (ready.status_code, ready.json()["problems"]) == (503, list(service.backend.problems))
    assert (await service.client.get("/healthz")).status_code == 200


async def _finished(service: Service, execution_id: str) -> dict[str, Any]:
    answer = await service.client.get(f"/executions/{execution_id}", headers={"Prefer": "wait=20"})
    async with asyncio.timeout(60):
        while answer.json()["finished_at"] is None:
            answer = await service.client.get(f"/executions/{execution_id}", headers={"Prefer": "wait=20"})
    found: dict[str, Any] = answer.json()
    return found
