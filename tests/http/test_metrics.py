"""What Prometheus gets to see."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from support.http_service import Service
from support.pool_status import pool

from executor_api.domain.outcome import Reason
from executor_api.http.metrics import OUTCOMES
from executor_runner.protocol.frames import FrameKind, encode_json


async def samples(service: Service) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = (await service.client.get("/metrics")).text
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def sample(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"executor_{name}", frozenset(labels.items())


async def test_executions_are_counted_by_how_they_ended(service: Service) -> None:
    """Endings, phases, output and truncation are there, with no label that grows with use."""
    service.backend.scripts["boom"] = ([(FrameKind.STDOUT, b"12345")], {"exit_code": 7})
    gap = encode_json({"stream": 2, "dropped_bytes": 9})
    service.backend.scripts["echo"] = ([(FrameKind.GAP, gap)], {})
    await service.client.post("/execute", json={"code": "boom"})
    await service.client.post("/execute", json={"code": "echo", "language": "python"})
    await service.client.post("/execute", json={"command": "ls"})
    found = await samples(service)
    ended = {"mode": "warm", "template": "default"}
    assert found[sample("executions_total", **ended, language="python", outcome="error")] == 1
    assert found[sample("executions_total", **ended, language="python", outcome="ok")] == 1
    assert found[sample("executions_total", **ended, language="shell", outcome="ok")] == 1
    assert found[sample("executions_accepted_total")] == 3
    assert found[sample("execution_duration_seconds_count", phase="run", mode="warm")] == 3
    assert found[sample("output_bytes_sum", stream="stdout")] == 5
    assert found[sample("output_truncated_total", stream="stderr")] == 1
    assert found[sample("queue_wait_seconds_count")] == 3
    assert found[sample("result_source_total", source="http")] == 3
    assert found[sample("inflight_executions")] == 0


async def test_what_calls_left_behind_is_counted(service: Service) -> None:
    """The census of every report adds up."""
    service.backend.scripts["daemon"] = ([], {"processes": {"left_behind": 3, "zombies": 2, "unkillable": 1}})
    for _ in range(2):
        await service.client.post("/execute", json={"code": "daemon"})
    found = await samples(service)
    names = ("left_behind", "zombies", "unkillable")
    assert [found[sample(f"processes_{name}_total")] for name in names] == [6, 4, 2]


async def test_gpu_memory_that_stays_is_counted(service: Service) -> None:
    """Leaks add up, a mute driver is one; memory that came back, or may be another's, is none. Answers say the same."""
    gpu = {"devices": 1, "before_bytes": 5, "after_bytes": 5, "leaked_bytes": 0, "returned": True}
    leak = {**gpu, "after_bytes": 400_000_005, "leaked_bytes": 400_000_000, "returned": False}
    mute, shared = (
        {**gpu, "after_bytes": None, "returned": False},
        {**gpu, "after_bytes": 9, "returned": False, "uncertain": True},
    )
    for name, found in {"ok": gpu, "leak": leak, "mute": mute, "shared": shared}.items():
        service.backend.scripts[name] = ([], {"gpu": found})
    for name in ("ok", "leak", "leak", "mute", "shared"):
        answer = (await service.client.post("/execute", json={"code": name})).json()
        assert (answer["status"], answer["gpu"]) == ("succeeded", service.backend.scripts[name][1]["gpu"])
    counted = await samples(service)
    assert counted[sample("gpu_leaks_total")] == 3
    assert counted[sample("gpu_leaked_bytes_total")] == 800_000_000


async def test_slots_in_use_are_a_gauge(service: Service) -> None:
    """A running call is seen while it runs."""
    await service.waiting()
    assert (await samples(service))[sample("inflight_executions")] == 1


async def test_pools_are_read_when_scraped(service: Service) -> None:
    """Sandboxes by state, the target and the claims of every pool as they are at that moment."""
    service.backend.statuses = (pool(ready=1), pool(template="gpu", desired=3))
    assert (await samples(service))[sample("pool_pods", template="default", state="ready")] == 1
    service.backend.statuses = (pool(ready=2, starting=4, hits=9, waits=3, misses=8, conflicts=7),)
    found = await samples(service)
    states = [found[sample("pool_pods", template="default", state=state)] for state in ("ready", "starting", "taken")]
    results = [
        found[sample("pool_claims_total", template="default", result=result)]
        for result in ("hit", "wait", "miss", "conflict")
    ]
    assert (states, results) == ([2, 4, 0], [9, 3, 8, 7])
    assert sample("pool_target", template="gpu") not in found


def test_every_reason_has_an_outcome() -> None:
    """A new reason can't be forgotten in the table."""
    assert set(OUTCOMES) == {None, *Reason}
