"""GPU requests, on a node that is told to have four devices."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.cluster import GPU, IMAGE, Namespace, namespace
from support.service import Service

pytestmark = pytest.mark.cluster

TEMPLATES = """
templates:
  - name: gpu
    gpu: {max_count: 8}
    start_seconds: 8
"""


@pytest.fixture(scope="module")
def space() -> Iterator[Namespace]:
    with namespace() as found, found.devices(GPU, 4):
        yield found


@pytest.fixture(scope="module")
def service(space: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("gpu")
    (folder / "templates.yaml").write_text(TEMPLATES)
    flags = ("--backend", "kubernetes", "--namespace", space.name, "--image", IMAGE)
    with Service(folder, *flags, "--templates", str(folder / "templates.yaml")) as found:
        yield found


def test_devices_are_requested_and_exhausted(service: Service, space: Namespace) -> None:
    """A call gets the devices it asks for; one that asks for more than are left is unschedulable and says so."""
    three = {"template": "gpu", "resources": {"gpu": {"count": 3}}}
    holder = service.submit({"command": "echo before; sleep 60", **three})
    service.wait_output(holder, "before")
    pod = space.core.read_namespaced_pod(service.get(holder)["sandbox"]["pod"], space.name)
    resources = pod.spec.containers[0].resources
    assert (resources.limits[GPU], resources.requests[GPU]) == ("3", "3")
    answer = service.execute({"code": "print(1)", "template": "gpu", "resources": {"gpu": {"count": 2}}})
    assert (answer["status"], answer["reason"]) == ("failed", "unschedulable")
    assert GPU in answer["message"]
    service.client.delete(f"/executions/{holder}")
    service.wait(holder)


def test_more_devices_than_allowed_make_no_pod(service: Service, space: Namespace) -> None:
    """A request beyond the template's devices, or for a template without any, is refused and makes nothing."""
    before = {job.metadata.name for job in space.jobs()}
    for request, allowed in (
        ({"template": "gpu", "resources": {"gpu": {"count": 9}}}, "at most 8"),
        ({"template": "default", "resources": {"gpu": {"count": 1}}}, "allows no GPU"),
        ({"template": "gpu", "resources": {"gpu": {"count": 1, "resource": "amd.com/gpu"}}}, GPU),
    ):
        answer = service.client.post("/execute", json={"code": "print(1)", **request})
        assert answer.status_code == 422
        [problem] = answer.json()["errors"]
        assert problem["field"].startswith("resources.gpu.")
        assert allowed in str(problem)
    assert {job.metadata.name for job in space.jobs()} <= before
