"""What bad input gets: a problem that names the mistake, and never an execution."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.http_service import Service, ServiceMaker
from support.tenants import bearer, write_keys

JSON = {"Content-Type": "application/json"}


def body(**fields: Any) -> bytes:
    return json.dumps({"code": "print(1)"} | fields).encode()


BAD_BODIES: list[tuple[bytes, str, str]] = [
    (b"", "invalid-json", ""),
    (b"{", "invalid-json", ""),
    (b"[]", "invalid-request", ""),
    (b"null", "invalid-request", ""),
    (b"{}", "invalid-request", ""),
    (b'{"code": "\\ud800"}', "invalid-json", ""),
    (b'{"code": "\xff"}', "invalid-json", ""),
    (b"[" * 1_000_000, "invalid-json", ""),
    (b'{"code": "1", "timeout_seconds": 1' + b"0" * 10_000 + b"}", "invalid-json", ""),
    (body(command="ls"), "invalid-request", ""),
    (body(nope=1), "invalid-request", "nope"),
    (body(code="x" * 2**21), "invalid-request", "code"),
    (body(language="cobol"), "invalid-request", "language"),
    (body(language="\0"), "invalid-request", "language"),
    (body(template="nope"), "invalid-request", "template"),
    (body(timeout_seconds=0), "invalid-request", "timeout_seconds"),
    (body(timeout_seconds=-1), "invalid-request", "timeout_seconds"),
    (body(timeout_seconds=1e308), "invalid-request", "timeout_seconds"),
    (body(timeout_seconds=3601), "invalid-request", "timeout_seconds"),
    (body(files={"/etc/passwd": "x"}), "invalid-request", "files"),
    (body(files={"../x": "x"}), "invalid-request", "files"),
    (body(env={"A": "\0"}), "invalid-request", "env.A"),
    (body(env={"A": "x" * 2**17}), "invalid-request", "env"),
    (body(resources={"memory": "-1Gi"}), "invalid-request", "resources.memory"),
    (body(resources={"memory": "1Gb"}), "invalid-request", "resources.memory"),
    (body(resources={"memory": "1000Gi"}), "invalid-request", "resources.memory"),
    (body(resources={"cpu": 0}), "invalid-request", "resources.cpu"),
    (body(resources={"gpu": {"count": 1}}), "invalid-request", "resources.gpu.count"),
    (body(template="gpu", resources={"gpu": {"count": 3}}), "invalid-request", "resources.gpu.count"),
    (body(template="gpu", isolation="reuse"), "invalid-request", "isolation"),
    (body(labels={"a": "-"}), "invalid-request", "labels"),
]


@pytest.mark.parametrize(("content", "slug", "field"), BAD_BODIES)
async def test_a_bad_body_is_a_422_and_runs_nothing(service: Service, content: bytes, slug: str, field: str) -> None:
    """Each mistake gets its problem with the field's name; nothing is recorded, nothing reaches a sandbox."""
    answer = await service.client.post("/execute", content=content, headers=JSON)
    problem = answer.json()
    assert (answer.status_code, problem["type"], problem["status"]) == (422, f"/problems/{slug}", 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["instance"] == "/execute"
    if field:
        assert [error["field"] for error in problem["errors"]] == [field]
    assert (await service.count(), service.backend.calls) == (0, [])


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"template": "nope"}, ["default", "gpu"]),
        ({"language": "cobol"}, ["python", "bash"]),
        ({"template": "gpu", "isolation": "reuse"}, ["single_use"]),
        ({"template": "gpu", "resources": {"gpu": {"count": 1, "resource": "a.b/c"}}}, ["nvidia.com/gpu"]),
        ({"isolation": "x"}, ["single_use", "reuse"]),
    ],
)
async def test_what_is_allowed_is_listed(service: Service, fields: dict[str, Any], allowed: list[str]) -> None:
    """Few values are given for programs too, whether the request or the template sets them."""
    answer = await service.client.post("/execute", content=body(**fields), headers=JSON)
    assert [error["allowed"] for error in answer.json()["errors"]] == [allowed]


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
async def test_another_content_type_is_named(service: Service, content_type: str) -> None:
    """A form or plain text is refused with the header's name and the type that works."""
    answer = await service.client.post("/execute", content=body(), headers={"Content-Type": content_type})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["field"], error["allowed"]) == ("Content-Type", ["application/json"])
    assert await service.count() == 0


async def test_a_charset_is_no_other_content_type(service: Service) -> None:
    """``application/json; charset=utf-8`` is what many clients send."""
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await service.client.post("/execute", content=body(), headers=headers)).status_code == 200


async def test_a_declared_giant_is_refused_before_it_is_sent(make_service: ServiceMaker) -> None:
    """With its length declared, 1 GiB is answered at once, and the connection does not stay open for the rest."""
    service = await make_service(max_body_bytes=1024)
    async with service.connection() as (reader, writer):
        writer.write(_head(f"Content-Length: {2**30}"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        rest = await asyncio.wait_for(reader.read(), 60)
    assert b"/problems/body-too-large" in rest
    assert b"1024 bytes" in rest
    assert await service.count() == 0


async def test_a_chunked_giant_is_refused_while_it_is_sent(make_service: ServiceMaker) -> None:
    """1 GiB in chunks is answered as soon as the limit is passed: its sender learns of it, and can't finish."""
    service = await make_service(max_body_bytes=2**20)
    sent = 0
    async with service.connection() as (reader, writer):
        writer.write(_head("Transfer-Encoding: chunked"))
        chunk = b"10000\r\n" + b" " * 2**16 + b"\r\n"
        answer = asyncio.create_task(reader.readline())
        while not answer.done() and sent < 2**30:
            writer.write(chunk)
            await writer.drain()
            sent += 2**16
            await asyncio.sleep(0)
        assert (await answer).startswith(b"HTTP/1.1 413")
    assert sent < 2**26
    assert await service.count() == 0


async def test_a_client_that_sends_all_before_it_reads_gets_its_413(make_service: ServiceMaker) -> None:
    """The connection is not reset under a client that only reads once it has sent everything."""
    service = await make_service(max_body_bytes=2**16)
    answer = await service.client.post("/execute", content=b" " * 2**23, headers=JSON)
    assert answer.status_code == 413


async def test_a_body_that_pauses_too_long_is_given_up(make_service: ServiceMaker) -> None:
    """A sender that stops half-way does not hold its connection for ever."""
    service = await make_service(body_timeout_seconds=0.05)
    async with service.connection() as (reader, writer):
        writer.write(_head("Content-Length: 100") + b'{"code"')
        assert (await reader.readline()).startswith(b"HTTP/1.1 422")
        writer.write_eof()
        assert b"/problems/body-timeout" in await reader.read()
    assert await service.count() == 0


async def test_a_body_that_stops_half_way_runs_nothing(service: Service) -> None:
    """A connection cut in the middle of a body leaves no execution behind, and the service goes on."""
    async with service.connection() as (_, writer):
        writer.write(_head("Content-Length: 100") + b'{"code": "print(1)"}')
        await writer.drain()
    assert (await service.client.post("/execute", json={"code": "next"})).status_code == 200
    assert await service.count() == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
async def test_a_bad_idempotency_key_is_named(service: Service, key: str) -> None:
    """A key that can't be told apart safely is refused before anything is recorded."""
    answer = await service.client.post("/execute", json={"code": "1"}, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"
    assert await service.count() == 0


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/executions/nothing", 404, "not-found"),
        ("GET", "/executions/%00%ff", 404, "not-found"),
        ("DELETE", "/executions/nothing", 404, "not-found"),
        ("GET", "/executions/nothing/events", 404, "not-found"),
        ("GET", "/execute", 405, "method-not-allowed"),
        ("PUT", "/executions", 405, "method-not-allowed"),
        ("GET", "/executions?status=done", 422, "invalid-parameter"),
        ("GET", "/executions?cursor=forged", 422, "invalid-request"),
        ("GET", "/executions/nothing/events?after=x", 422, "invalid-parameter"),
    ],
)
async def test_every_refusal_is_a_problem(service: Service, method: str, path: str, status: int, slug: str) -> None:
    """The framework's own refusals look like ours."""
    answer = await service.client.request(method, path)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/execute", "POST"), ("/executions", "GET, POST"), ("/v1/executions/x", "GET, DELETE"), ("/healthz", "GET")],
)
async def test_a_405_names_every_method_of_the_path(service: Service, path: str, allowed: str) -> None:
    """Also where a path has several routes."""
    answer = await service.client.patch(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def test_a_full_queue_says_when_to_come_back(make_service: ServiceMaker) -> None:
    """Beyond the queue there is 429 with Retry-After, counted for the operator."""
    service = await make_service(max_concurrency=1, max_queue=0)
    await service.waiting()
    answer = await service.client.post("/execute", json={"code": "1"})
    assert (answer.status_code, answer.json()["type"]) == (429, "/problems/saturated")
    assert int(answer.headers["retry-after"]) >= 1
    assert "executor_rate_limited_total 1.0" in (await service.client.get("/metrics")).text
    assert await service.count() == 1


async def test_bodies_on_their_way_have_bounded_room(make_service: ServiceMaker, tmp_path: Path) -> None:
    """A tenant's fill half of it and are told when to come again; its small ones and others' come through."""
    keys = write_keys(tmp_path / "keys.yaml", "ann", "bob")
    service = await make_service(max_body_bytes=200_000, api_keys=keys)
    call = functools.partial(service.client.post, "/execute", json={"code": "1" * 180_000})
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(6):
            _, writer = await stack.enter_async_context(service.connection())
            authorization = f"Authorization: {bearer('ann')['Authorization']}"
            writer.write(_head(authorization, "Content-Length: 200000") + b" " * 199_999)
        while (refused := await call(headers=bearer("ann"))).status_code == 200:
            pass  # the bodies come by other connections
        assert (refused.status_code, refused.json()["type"]) == (429, "/problems/saturated")
        assert refused.headers["retry-after"] == "5"
        assert (await call(headers=bearer("bob"))).status_code == 200
        assert (await call(headers=bearer("ann"), json={"code": "1"})).status_code == 200
    while (await call(headers=bearer("ann"))).status_code == 429:
        pass  # the service has not seen yet that their clients are gone


async def test_a_stopped_executor_is_a_503(service: Service) -> None:
    """While the service drains, new calls are told to come back."""
    await service.executions.stop(1)
    answer = await service.client.post("/execute", json={"code": "1"})
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert re.fullmatch(r"[1-9]\d*", answer.headers["retry-after"])


async def test_what_nobody_foresaw_is_a_500_that_tells_nothing(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of ours is a problem without its inside; the log has the traceback."""
    service.backend.fault = RuntimeError("inside")
    answer = await service.client.post("/execute", json={"code": "1"})
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal")
    assert "inside" not in answer.text
    assert "RuntimeError: inside" in caplog.text


def _head(*fields: str) -> bytes:
    lines = ["POST /execute HTTP/1.1", "Host: localhost", "Content-Type: application/json", *fields, "", ""]
    return "\r\n".join(lines).encode()
