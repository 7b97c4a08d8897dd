"""The last hour as `GET /status` tells it, and the files of the page that shows it."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.requests import Request
from support.doors import Time
from support.executions import execution, finished
from support.http_service import Service, ServiceMaker
from support.service import Service as Process

from executor_api.domain.execution import Timings
from executor_api.http.metrics import Metrics
from executor_api.http.status import StatusRoute
from executor_api.http.status_page import FILES
from executor_api.service.last_hour import LastHour
from executor_api.settings import Settings
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


async def test_minutes_that_are_over_stay_as_they_were() -> None:
    """However often somebody asked meanwhile, each has what ended in it, until it is older than an hour."""
    clock, metrics = Time(), Metrics()
    clock.seconds = 0.0
    metrics.hour = LastHour(clock)
    route = StatusRoute(metrics, Settings())

    async def calls() -> list[int]:
        answer = await route.status(Request({"type": "http"}))
        return [minute["total_ms"]["calls"] for minute in json.loads(answer.body)["minutes"]]

    record = replace(finished(execution(1), 0.0), timings=Timings(total=1.0))
    told = []
    for _ in range(3):
        metrics.hour.finished(record)
        told.append(await calls())
        metrics.hour.finished(record)
        told.append(await calls())
        clock.seconds += 60
    assert told == [[1], [2], [2, 1], [2, 2], [2, 2, 1], [2, 2, 2]]
    clock.seconds += 58 * 60
    assert await calls() == [2, *[0] * 59]


def test_the_service_tells_of_its_own_processes(tmp_path: Path) -> None:
    """A process of its own has looked at itself: figures now, and in the minute of the look."""
    with Process(tmp_path) as service:
        while (found := service.client.get("/status").json())["own"] is None:
            time.sleep(0.05)
    assert found["own"]["processes"] >= 1
    assert found["own"]["threads"] >= 1
    looked = [minute["own"] for minute in found["minutes"] if minute["own"]]
    assert looked[0]["processes"] >= 1


@pytest.mark.parametrize("path", FILES)
async def test_the_page_is_there_without_a_key_and_may_do_little(make_service: ServiceMaker, path: str) -> None:
    """Its files hold nothing of the installation; what they may load and run is their own service's only."""
    service = await make_service(api_key="secret")
    answer = await service.client.get(path)
    assert (answer.status_code, answer.content) == (200, FILES[path][0])
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_needs_nothing_from_elsewhere() -> None:
    """No file names another host, an absolute path, or a script or style in the markup."""
    assert {"/", "/page/main.js", "/page/status.css", "/page/icon.svg"} <= set(FILES)
    for path, (content, _) in FILES.items():
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]|\b(src|href)=\"/|\bon[a-z]+=|style=|<style|javascript:", text), path
        assert not re.search(r"(inner|outer|Adjacent)HTML|document\.write|\beval\(|new Function", text), path


async def test_what_is_no_file_of_the_page_is_not_served(service: Service) -> None:
    """Only names that are there, by GET."""
    for path in ("/page/", "/page/__init__.py", "/page/../status.py", "/page/index.html", "/page"):
        assert (await service.client.get(path)).status_code == 404
    assert (await service.client.post("/")).status_code == 405
