"""Tenants over HTTP: none sees or guesses another's, and each is held to its own limits."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from typing import Any

import pytest
from support.http_service import Service, ServiceMaker
from support.pool_status import pool
from support.tenants import bearer, write_keys

from executor_api.domain.tenant import TenantLimits, Tenants

TENANTS = ("ann", "bob")
LIMITS = """\
tenants:
  bob: {rate: 0.01, burst: 2, max_concurrency: 1, max_queue: 0, templates: [default]}
"""


@pytest.fixture
async def service(make_service: ServiceMaker, tmp_path: Path) -> Service:
    limits = tmp_path / "tenants.yaml"
    limits.write_text(LIMITS)
    return await make_service(api_keys=write_keys(tmp_path / "keys.yaml", *TENANTS), tenants=str(limits))


def problem(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")


async def test_what_is_anothers_does_not_exist(service: Service) -> None:
    """Record, events, explanation and cancelling of another tenant's execution are a 404, as for an id nobody has."""
    made = await service.client.post("/execute", json={"code": "hello"}, headers=bearer("ann"))
    own = made.json()["id"]
    nobodys = "0" * len(own)
    for method, path in (("GET", ""), ("GET", "/events"), ("GET", "/explain"), ("DELETE", "")):
        asked = [
            await service.client.request(method, f"/executions/{name}{path}", headers=bearer("bob"))
            for name in (own, nobodys)
        ]
        assert [problem(answer) for answer in asked] == [(404, "not-found")] * 2
        told = [answer.json()["detail"].replace(name, "") for answer, name in zip(asked, (own, nobodys), strict=True)]
        assert told[0] == told[1]
    assert (await service.client.get("/executions", headers=bearer("bob"))).json()["executions"] == []
    assert len((await service.client.get("/executions", headers=bearer("ann"))).json()["executions"]) == 1


async def test_idempotency_keys_are_a_tenants_own(service: Service) -> None:
    """The same key of two tenants stands for two executions, and tells neither of the other's."""
    made = [
        await service.client.post("/execute", json={"code": code}, headers={**bearer(tenant), "Idempotency-Key": "k"})
        for tenant, code in (("ann", "one"), ("bob", "two"), ("ann", "one"))
    ]
    assert [answer.json()["stdout"] for answer in made] == ["one", "two", "one"]
    ids = [answer.json()["id"] for answer in made]
    assert (ids[0] == ids[2], ids[0] == ids[1]) == (True, False)


async def test_who_calls_too_often_is_told_when_to_come_again(service: Service) -> None:
    """A burst goes through, then 429 with Retry-After, counted, whatever the body is; no other tenant hears of it."""
    statuses = [(await _call(service, "bob", code="x")).status_code for _ in range(2)]
    refused = await _call(service, "bob", code="x")
    assert (statuses, problem(refused)) == ([200, 200], (429, "rate-limited"))
    assert 90 < int(refused.headers["retry-after"]) <= 100
    assert problem(await _call(service, "bob", code="x" * 100_000)) == (429, "rate-limited")
    assert (await _call(service, "ann", code="x")).status_code == 200
    assert "executor_rate_limited_total 2.0" in (await service.client.get("/metrics", headers=bearer("ann"))).text


async def test_a_refused_call_leaves_the_connection_usable(service: Service) -> None:
    """The body that nobody read is not taken for the next request; a large one costs the connection."""
    for _ in range(2):
        await _call(service, "bob", code="x")
    async with service.connection() as (reader, writer):
        for _ in range(2):
            body = b"GET /healthz HTTP/1.1\r\n\r\n" * 100
            lines = [
                "POST /execute HTTP/1.1",
                "Host: localhost",
                f"Authorization: {bearer('bob')['Authorization']}",
                "Content-Type: application/json",
                f"Content-Length: {len(body)}",
            ]
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 429 ")
            (length,) = (line for line in head.splitlines() if line.lower().startswith(b"content-length"))
            await reader.readexactly(int(length.split()[1]))


async def test_a_tenant_at_its_limit_is_refused_and_the_others_are_not(service: Service) -> None:
    """Its own calls are as many as may be; slots are free, and another tenant gets one."""
    await service.waiting(**bearer("bob"))
    assert problem(await _call(service, "bob", code="x")) == (429, "saturated")
    assert (await _call(service, "ann", code="x")).status_code == 200


async def test_no_tenant_has_all_connections(make_service: ServiceMaker, tmp_path: Path) -> None:
    """Requests that wait leave room for others': a tenant is refused more of them, and another is served."""
    service = await make_service(connections=8, api_keys=write_keys(tmp_path / "keys.yaml", *TENANTS))
    execution_id = await service.waiting(**bearer("ann"))
    wait = functools.partial(
        service.client.get, f"/executions/{execution_id}", headers={**bearer("ann"), "Prefer": "wait=9"}
    )
    waiting = [asyncio.create_task(wait()) for _ in range(6)]
    while (refused := await service.client.get("/templates", headers=bearer("ann"))).status_code == 200:
        pass  # not all of them have come
    assert (problem(refused), refused.headers["retry-after"]) == ((429, "saturated"), "1")
    assert (await service.client.get("/templates", headers=bearer("bob"))).status_code == 200
    assert (await service.client.get("/healthz")).status_code == 200
    service.backend.release.set()
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}
    assert (await service.client.get("/templates", headers=bearer("ann"))).status_code == 200


async def test_templates_it_may_not_use_are_not_there(service: Service) -> None:
    """They are not listed, nor their pools, and asking for one names those that would do."""
    service.backend.statuses = (pool(), pool(template="gpu"))
    for path, member, field in (("/templates", "templates", "name"), ("/pool", "pools", "template")):
        shown = {
            tenant: [item[field] for item in (await service.client.get(path, headers=bearer(tenant))).json()[member]]
            for tenant in TENANTS
        }
        assert shown == {"ann": ["default", "gpu"], "bob": ["default"]}
    refused = await _call(service, "bob", code="x", template="gpu")
    assert problem(refused) == (422, "invalid-request")
    assert refused.json()["errors"] == [
        {
            "field": "template",
            "message": "'gpu' is no template that you can use; there are: default",
            "allowed": ["default"],
        }
    ]
    assert (await _call(service, "ann", code="x", template="gpu")).status_code == 200


async def _call(service: Service, tenant: str, **request: str) -> Any:
    return await service.client.post("/execute", json=request, headers=bearer(tenant))


async def test_the_pool_of_a_template_taken_away_is_not_explained(service: Service) -> None:
    """A call that waits is told how its pool is for as long as its tenant may see that pool."""
    service.backend.statuses = (pool(template="gpu", problems=("no node has a GPU",)),)
    service.executions.limit(Tenants(default=TenantLimits(max_concurrency=1)))
    await service.waiting(**bearer("ann"))
    headers = {"Prefer": "wait=0", **bearer("ann")}
    made = await service.client.post("/execute", json={"code": "x", "template": "gpu"}, headers=headers)
    explain = functools.partial(service.client.get, f"/executions/{made.json()['id']}/explain", headers=bearer("ann"))
    assert "no node has a GPU" in (await explain()).text
    service.executions.limit(Tenants(default=TenantLimits(max_concurrency=1, templates=("default",))))
    assert "no node has a GPU" not in (await explain()).text
