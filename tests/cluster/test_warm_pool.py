"""The warm pool on a real cluster, by a real service: calls that find it, and what an operator may do to it."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.cluster import IMAGE, Namespace, namespace
from support.service import Service

from executor_api.backends.kubernetes import names

pytestmark = pytest.mark.cluster

MARK = "/sandbox/mark"
SINGLE_USE = {"code": f"import os, socket\nprint(socket.gethostname(), os.path.exists('{MARK}'))\nopen('{MARK}', 'w')"}
"""Tells its pod, and whether another call was there before."""


@pytest.fixture
def space() -> Iterator[Namespace]:
    with namespace() as found:
        yield found


def serve(space: Namespace, folder: Path, templates: list[dict[str, Any]]) -> Service:
    path = folder / "templates.yaml"
    path.write_text(json.dumps({"templates": templates}))  # JSON is YAML
    flags = ("--backend", "kubernetes", "--namespace", space.name, "--image", IMAGE, "--templates", str(path))
    return Service(folder / "data", *flags)


def waiting(space: Namespace, template: str = "default") -> dict[str, Any]:
    """The Jobs of a pool whose sandbox is ready, by name."""
    ready = {pod.metadata.labels["batch.kubernetes.io/job-name"] for pod in space.pods() if _runs(pod)}
    return {
        job.metadata.name: job
        for job in space.jobs()
        if job.metadata.labels[names.STATE] == "waiting"
        and job.metadata.labels[names.TEMPLATE] == template
        and job.metadata.name in ready
    }


def _runs(pod: Any) -> bool:
    statuses = pod.status.container_statuses or []
    return pod.metadata.deletion_timestamp is None and any(item.state.running for item in statuses)


def eventually(holds: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def answering(service: Service, size: int, template: str = "default") -> None:
    """Wait until so many can have a call: a sandbox runs a moment before its runner answers."""

    def ready() -> int:
        pools = service.client.get("/pool").json()["pools"]
        return next((pool["ready"] for pool in pools if pool["template"] == template), 0)

    eventually(lambda: ready() == size)


def full(space: Namespace, size: int, template: str = "default") -> Callable[[], bool]:
    return lambda: len(waiting(space, template)) == size


def test_calls_find_a_sandbox_waiting_and_none_is_used_twice(space: Namespace, tmp_path: Path) -> None:
    """Twelve calls, six at once, on a pool of four: right answers, a pod of its own for each, and the pool is back."""
    with serve(space, tmp_path, [{"name": "default", "pool": {"size": 4}}]) as service:
        answering(service, 4)
        with ThreadPoolExecutor(6) as callers:
            answers = list(callers.map(lambda _: service.execute(SINGLE_USE), range(12)))
        assert all(answer["stdout"].endswith(" False\n") for answer in answers), answers
        assert len({answer["sandbox"]["pod_uid"] for answer in answers}) == 12
        assert sum(answer["start"] == "warm" for answer in answers) >= 4
        assert all(answer["cold_reason"] for answer in answers if answer["start"] == "cold")
        eventually(full(space, 4))
        used = {answer["sandbox"]["job"] for answer in answers}
        eventually(lambda: not used & {job.metadata.name for job in space.jobs()})


def test_a_pool_survives_its_service(space: Namespace, tmp_path: Path) -> None:
    """A restarted service finds the sandboxes that wait, and makes none anew."""
    templates = [{"name": "default", "pool": {"size": 3}}]
    with serve(space, tmp_path, templates):
        eventually(full(space, 3))
        before = set(waiting(space))
    with serve(space, tmp_path, templates) as service:
        assert service.execute({"code": "print(1)"})["sandbox"]["job"] in before
        eventually(lambda: full(space, 3)() and len(set(waiting(space)) & before) == 2)


def test_what_an_operator_does_to_a_pool(space: Namespace, tmp_path: Path) -> None:
    """Deleted pods are replaced, a changed template replaces all, a cordoned node and a quota hold it, not churn it."""
    template: dict[str, Any] = {"name": "default", "pool": {"size": 5}}
    with serve(space, tmp_path, [template]) as service:
        eventually(full(space, 5))
        before = waiting(space)
        for pod in space.pods():
            if pod.metadata.labels["batch.kubernetes.io/job-name"] in before:
                space.delete_pod(pod.metadata.name)
        eventually(lambda: not waiting(space).keys() & before.keys())  # a call that met one going would go with it
        answering(service, 5)
        assert service.execute({"code": "print(1)"})["stdout"] == "1\n"
        eventually(lambda: full(space, 5)() and not set(waiting(space)) & set(before))

        before = waiting(space)
        template["preload"] = ["decimal"]
        (tmp_path / "templates.yaml").write_text(json.dumps({"templates": [template]}))
        service.process.send_signal(signal.SIGHUP)
        eventually(lambda: full(space, 5)() and not set(waiting(space)) & set(before))

        answering(service, 5)
        (node,) = {pod.spec.node_name for pod in space.pods() if _runs(pod)}
        with space.cordoned(node):
            assert service.execute({"code": "print(2)"})["start"] == "warm"
            eventually(lambda: len(pending(space)) == 1)
            held = pending(space)
            time.sleep(3)  # rounds in which it would be churned
            assert pending(space) == held
        eventually(full(space, 5))

        with space.quota(pods="5"):
            assert service.execute({"code": "print(3)"})["stdout"] == "3\n"
            time.sleep(3)
            assert len([job for job in space.jobs() if not (job.status.failed or job.status.succeeded)]) <= 6
        eventually(full(space, 5))


def pending(space: Namespace) -> set[str]:
    """Jobs that wait for a node."""
    return {pod.metadata.labels["batch.kubernetes.io/job-name"] for pod in space.pods() if not pod.spec.node_name}


def test_pools_of_several_templates_side_by_side(space: Namespace, tmp_path: Path) -> None:
    """Each template has its own, one with devices too; a call that asks for something else goes cold and says so."""
    templates = [
        {"name": "default", "pool": {"size": 1}},
        {
            "name": "small",
            "pool": {"size": 1},
            "resources": {"cpu": "100m", "memory": "64Mi", "ephemeral_storage": "64Mi"},
        },
        {"name": "gpu", "pool": {"size": 1}, "gpu": {"count": 1, "max_count": 1}},
    ]
    with space.devices("nvidia.com/gpu", 4), serve(space, tmp_path, templates) as service:
        for name in ("default", "small", "gpu"):
            answering(service, 1, name)
        for name in ("default", "small", "gpu"):
            assert service.execute({"code": "print(1)", "template": name})["start"] == "warm"
        cold = service.execute({"code": "print(1)", "template": "small", "resources": {"memory": "65Mi"}})
        assert (cold["start"], "other resources" in cold["cold_reason"]) == ("cold", True)


SMALL = {"cpu": "100m", "memory": "64Mi", "ephemeral_storage": "64Mi"}
LEAVES = """
import os, pathlib, subprocess
before = [str(p) for place in ('.', os.environ['HOME'], os.environ['TMPDIR']) for p in pathlib.Path(place).iterdir()]
others = [p for p in os.listdir('/proc') if p.isdigit() and int(p) not in (1, os.getpid())]
print(before, *others, 'left' in globals())
left = True
for place in ('.', os.environ['HOME'], os.environ['TMPDIR']):
    pathlib.Path(place, 'left').write_text('x')
subprocess.Popen(['setsid', 'sleep', '600'])
"""


def test_a_reused_sandbox_keeps_its_pod_and_nothing_else(space: Namespace, tmp_path: Path) -> None:
    """One pod serves call after call; files, processes and the interpreter's state of one are gone in the next."""
    with serve(space, tmp_path, [{"name": "default", "pool": {"size": 2}}]) as service:
        eventually(full(space, 2))
        answers = [service.execute({"code": LEAVES, "isolation": "reuse"}) for _ in range(20)]
        (said,) = {answer["stdout"] for answer in answers}
        assert re.fullmatch(r"\[\] \d+ False\n", said), said  # the zygote, the same each time
        assert [answer["start"] for answer in answers[1:]] == ["reused"] * 19
        assert len({answer["sandbox"]["pod_uid"] for answer in answers}) == 1
        assert all(answer["processes"]["left_behind"] == 1 for answer in answers)
        single = service.execute(SINGLE_USE)
        assert single["sandbox"]["pod_uid"] != answers[0]["sandbox"]["pod_uid"]
    eventually(lambda: answers[0]["sandbox"]["job"] not in {job.metadata.name for job in space.jobs()})
