"""The audit log: a line for each execution and for what was refused, with nothing of what they held."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from support.http_service import Service, ServiceMaker
from support.tenants import bearer, write_keys

from executor_api.domain.caller import Scope

HUSH = "hush-hush"


@pytest.fixture
async def service(make_service: ServiceMaker, tmp_path: Path) -> Service:
    return await make_service(api_keys=write_keys(tmp_path / "keys.yaml", "ann", scopes=(Scope.EXECUTE, Scope.READ)))


async def test_an_execution_is_one_line_without_its_contents(service: Service) -> None:
    """Who, from where, what by its hash, in what, and how it ended; a header that claims another address is ignored."""
    request = {
        "code": f"print('{HUSH}')",
        "env": {"A": HUSH},
        "stdin": HUSH,
        "files": {f"{HUSH}.txt": HUSH},
        "labels": {"l": HUSH},
        "resources": {"cpu": "2"},
    }
    headers = {**bearer("ann"), "X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
    answer = (await service.client.post("/execute", json=request, headers=headers)).json()
    (line,) = service.audit
    assert HUSH not in str(line)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("accepted_at"))
    assert line.pop("duration_ms") > 0
    assert line == {
        "event": "execution",
        "execution": answer["id"],
        "tenant": "ann",
        "caller": "ann1",
        "way": "api-keys",
        "address": "127.0.0.1",
        "kind": "python",
        "sha256": hashlib.sha256(request["code"].encode()).hexdigest(),
        "template": "default",
        "isolation": "single_use",
        "cpu": "2",
        "memory": "512Mi",
        "ephemeral_storage": "1Gi",
        "gpus": 0,
        "start": "warm",
        "status": "succeeded",
        "reason": None,
        "exit_code": 0,
        "signal": None,
        "backend": "local",
        "sandbox": answer["sandbox"]["name"],
        "image": "scripted",
        "pod": None,
        "pod_uid": None,
        "node": None,
        "stored": True,
    }


@pytest.mark.parametrize(
    ("request_", "kind", "hashed"),
    [
        ({"command": "df -h"}, "shell", b"df -h"),
        ({"command": ["df", "-h"]}, "argv", b"df\0-h\0"),
        ({"command": ["df -h"]}, "argv", b"df -h\0"),
        ({"code": "é", "language": "bash"}, "bash", "é".encode()),
    ],
)
async def test_what_ran_can_be_found_again_by_its_hash(
    service: Service, request_: dict[str, Any], kind: str, hashed: bytes
) -> None:
    """Of code and of a shell command as they are, of a list as /proc/PID/cmdline has it."""
    await service.client.post("/execute", json=request_, headers=bearer("ann"))
    (line,) = service.audit
    assert (line["kind"], line["sha256"]) == (kind, hashlib.sha256(hashed).hexdigest())


async def test_a_repeated_request_is_no_second_execution(service: Service) -> None:
    """The same key, the same line."""
    for _ in range(2):
        await service.client.post("/execute", json={"code": "1"}, headers={**bearer("ann"), "Idempotency-Key": "k"})
    assert len(service.audit) == 1


async def test_who_cancels_is_a_line(service: Service) -> None:
    """Once, however often it is asked; an execution that is over is not cancelled."""
    execution_id = await service.waiting(**bearer("ann"))
    for _ in range(2):
        await service.client.delete(f"/executions/{execution_id}", headers=bearer("ann"))
    service.backend.release.set()
    await service.client.get(f"/executions/{execution_id}", headers={"Prefer": "wait=9", **bearer("ann")})
    await service.client.delete(f"/executions/{execution_id}", headers=bearer("ann"))
    who = {"tenant": "ann", "caller": "ann1", "way": "api-keys", "address": "127.0.0.1"}
    assert [line for line in service.audit if line["event"] == "cancel"] == [
        {"event": "cancel", "execution": execution_id, **who}
    ]


async def test_refusals_are_lines_too(service: Service) -> None:
    """Without a key, and with one that lacks the scope: who, if that is known, from where, and what was asked for."""
    for headers in ({"Authorization": f"Bearer {HUSH}"}, bearer("ann")):
        await service.client.get(f"/metrics?{HUSH}", headers=headers)
    await service.client.get("/executions/nothing", headers=bearer("ann"))
    nobody = {"tenant": None, "caller": None, "way": None}
    ann = {"tenant": "ann", "caller": "ann1", "way": "api-keys"}
    common = {"event": "refusal", "address": "127.0.0.1", "method": "GET", "path": "/metrics", "left_out": 0}
    assert service.audit == [
        {**common, **nobody, "status": 401, "problem": "unauthorized"},
        {**common, **ann, "status": 403, "problem": "forbidden"},
    ]


async def test_a_full_service_is_a_refusal(make_service: ServiceMaker) -> None:
    """429, with the tenant it was said to; without keys everybody is the same one."""
    service = await make_service(max_concurrency=1, max_queue=0)
    await service.waiting()
    await service.client.post("/execute", json={"code": "1"})
    (line,) = service.audit
    assert (line["problem"], line["tenant"], line["way"]) == ("saturated", "default", "open")


async def test_a_flood_of_refusals_is_no_flood_of_lines(service: Service) -> None:
    """Some of each kind, then few; those left out are counted, and another kind still has its own."""
    for _ in range(300):
        await service.client.get("/executions")
    await service.client.get("/metrics", headers=bearer("ann"))
    kinds = [line["problem"] for line in service.audit]
    assert 20 <= kinds.count("unauthorized") <= 60
    assert kinds[-1] == "forbidden"
