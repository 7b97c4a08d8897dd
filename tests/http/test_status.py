"""The last hour as `GET /status` tells it."""

from __future__ import annotations

import time
from pathlib import Path

from support.http_service import Service, ServiceMaker
from support.service import Service as Process

from executor_runner.protocol.frames import FrameKind


async def test_the_hour_tells_of_calls(service: Service) -> None:
    """How calls ended, how long they took, what they left, and who runs now; the same in the minutes and in all."""
    census = {"left_behind": 3, "zombies": 2, "unkillable": 0}
    service.backend.scripts["boom"] = ([(FrameKind.STDOUT, b"12345")], {"exit_code": 7, "processes": census})
    for code in ("1", "2", "boom"):
        await service.client.post("/execute", json={"code": code})
    await service.waiting()
    found = (await service.client.get("/status")).json()
    hour = found["hour"]
    assert hour["endings"] == {"succeeded": 2, "exit_code": 1}
    assert hour["total_ms"]["calls"] == 3
    assert [hour["start_ms"][start]["calls"] for start in ("warm", "cold", "reused")] == [3, 0, 0]
    assert 0 < hour["total_ms"]["p50"] <= hour["total_ms"]["p95"]
    assert hour["left_behind"] == census
    assert (found["running"], found["queued"], found["max_running"]) == (1, 0, service.settings.max_concurrency)
    minutes = found["minutes"]
    assert 1 <= len(minutes) <= 2
    assert sum(minute["total_ms"]["calls"] for minute in minutes) == 3
    assert minutes[0]["at"] <= found["since"] <= found["at"]
    assert found["own"] is None  # nobody looks at processes in this test


async def test_it_is_not_for_every_tenant(make_service: ServiceMaker) -> None:
    """It counts all tenants' calls: without a key it is a 401, and the port for scrapers does not have it."""
    service = await make_service(api_key="secret")
    assert (await service.client.get("/status")).status_code == 401
    found = await service.client.get("/status", headers={"Authorization": "Bearer secret"})
    assert found.status_code == 200


def test_the_service_tells_of_its_own_processes(tmp_path: Path) -> None:
    """A process of its own has looked at itself: figures now, and in the minute of the look."""
    with Process(tmp_path) as service:
        while (found := service.client.get("/status").json())["own"] is None:
            time.sleep(0.05)
    assert 1 <= found["own"]["processes"] < 10
    assert (found["own"]["zombies"], found["own"]["stuck"]) == (0, 0)
    looked = [minute["own"] for minute in found["minutes"] if minute["own"]]
    assert looked[0]["processes"] >= 1
