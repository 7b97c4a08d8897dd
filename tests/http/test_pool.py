"""The pool over HTTP: what it is, calls it turns away, and executions in sentences."""

from __future__ import annotations

import pytest
from support.http_service import TEMPLATES, Service, ServiceMaker
from support.pool_status import pool

from executor_api.domain.pool_settings import MissPolicy, PoolSettings
from executor_api.domain.template import Template

STRICT = {"code": "hello", "template": "strict"}


@pytest.fixture
async def service(make_service: ServiceMaker) -> Service:
    service = await make_service()
    strict = Template(name="strict", pool=PoolSettings(size=2, miss=MissPolicy.REJECT))
    service.executions.replace_templates({**TEMPLATES, "strict": strict})
    return service


async def test_no_pool_is_an_empty_list(service: Service) -> None:
    """The local backend has none."""
    assert (await service.client.get("/v1/pool")).json() == {"pools": []}


async def test_a_pool_in_numbers_and_sentences(service: Service) -> None:
    """Every figure of the backend, instants as text."""
    service.backend.statuses = (pool(changed_at=0.0, problems=("1 sandbox pending for 3 s: Insufficient cpu",)),)
    assert (await service.client.get("/pool")).json() == {
        "pools": [
            {
                "template": "default",
                "digest": "d1",
                "desired": 2,
                "ready": 2,
                "starting": 0,
                "taken": 0,
                "hits": 0,
                "waits": 0,
                "misses": 0,
                "conflicts": 0,
                "held": 0,
                "replacement_seconds": None,
                "refill_per_second": None,
                "changed_at": "1970-01-01T00:00:00.000Z",
                "problems": ["1 sandbox pending for 3 s: Insufficient cpu"],
                "sentences": [
                    "2 of 2 sandboxes of template 'default' wait ready; 0 are being made, 0 are in use.",
                    "1 sandbox pending for 3 s: Insufficient cpu",
                ],
            }
        ]
    }


async def test_an_empty_pool_that_rejects_is_a_429_before_any_work(service: Service) -> None:
    """Whole seconds in `Retry-After`, the pool's problem in the detail, no record, no call; a retry finds room."""
    empty = pool(template="strict", ready=0, starting=1, refill_per_second=0.4, problems=("quota is used up",))
    service.backend.statuses = (empty,)
    refusal = await service.client.post("/execute", json=STRICT)
    assert (refusal.status_code, refusal.headers["retry-after"]) == (429, "3")
    assert refusal.json()["type"] == "/problems/saturated"
    assert "quota is used up" in refusal.json()["detail"]
    assert (await service.count(), service.backend.calls) == (0, [])
    service.backend.statuses = (pool(template="strict"),)
    for _ in range(5):
        assert (await service.client.post("/execute", json=STRICT)).json()["status"] == "succeeded"


async def test_a_used_key_is_answered_by_an_empty_pool_too(service: Service) -> None:
    """A client that repeats a request gets its execution, not a 429."""
    service.backend.statuses = (pool(template="strict"),)
    headers = {"Idempotency-Key": "k"}
    first = (await service.client.post("/execute", json=STRICT, headers=headers)).json()
    service.backend.statuses = (pool(template="strict", ready=0),)
    again = await service.client.post("/execute", json=STRICT, headers=headers)
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    fresh = await service.client.post("/execute", json=STRICT, headers={"Idempotency-Key": "other"})
    assert fresh.status_code == 429


async def test_an_execution_in_sentences(service: Service) -> None:
    """How it ended, what to do, and where the time went."""
    service.backend.scripts["boom"] = ([], {"exit_code": 7})
    execution = (await service.client.post("/execute", json={"code": "boom"})).json()
    found = (await service.client.get(f"/executions/{execution['id']}/explain")).json()
    assert found["id"] == execution["id"]
    assert "(exit_code): exit code 7." in found["summary"]
    assert "The call ended by itself; stderr usually says why." in found["sentences"]


async def test_an_unknown_execution_is_a_404(service: Service) -> None:
    """As for every path below an execution."""
    assert (await service.client.get("/executions/nobody/explain")).status_code == 404
