"""Calls whose Jobs wait in a queue. The test does what Kueue does: it holds Jobs back, admits them and takes back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from support.cluster import IMAGE, Namespace, namespace
from support.service import Service

from executor_api.backends.kubernetes import names

pytestmark = pytest.mark.cluster

QUEUE = "team-a"
TEMPLATES = f"templates: [{{name: queued, queue: {QUEUE}}}]"
PREEMPTED = "Preempted to accommodate a workload (UID: u, JobUID: j) due to prioritization in the ClusterQueue"
CALL = {"command": "echo before; sleep 60; echo after", "template": "queued"}


class Queue:
    """A queue of one namespace."""

    def __init__(self, space: Namespace) -> None:
        self._space = space

    @contextlib.contextmanager
    def holding_back(self) -> Iterator[None]:
        """Suspend every new Job that names a queue, as Kueue's webhook does."""
        name = self._space.name
        spec = {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
                "resourceRules": [
                    {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
                ],
            },
            "matchConditions": [
                {"name": "queued", "expression": f"'{names.QUEUE}' in object.metadata.?labels.orValue({{}})"}
            ],
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [
                {
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {"expression": "Object{spec: Object.spec{suspend: true}}"},
                }
            ],
        }
        admission = client.AdmissionregistrationV1Api()
        try:
            admission.create_mutating_admission_policy({"metadata": {"name": name}, "spec": spec})
        except client.exceptions.ApiException as error:
            pytest.skip(
                f"this cluster has no MutatingAdmissionPolicy of v1, by which Jobs are held back: {error.status}"
            )
        admission.create_mutating_admission_policy_binding({"metadata": {"name": name}, "spec": {"policyName": name}})
        try:
            self._space.wait(self._holds)
            yield
        finally:
            admission.delete_mutating_admission_policy_binding(name)
            admission.delete_mutating_admission_policy(name)

    def admit(self, job: str) -> None:
        """Let it start."""
        self._suspend(job, suspended=False)

    def take_back(self, job: str) -> None:
        """Preempt it, and wait until its pod goes."""
        now = datetime.now(UTC).isoformat()
        body = {
            "metadata": {"generateName": "stopped-"},
            "involvedObject": {"kind": "Job", "name": job, "namespace": self._space.name, "apiVersion": "batch/v1"},
            "reason": "Stopped",
            "message": PREEMPTED,
            "type": "Normal",
            "firstTimestamp": now,
            "lastTimestamp": now,
        }
        self._space.core.create_namespaced_event(self._space.name, body)
        self._suspend(job, suspended=True)

    def _suspend(self, job: str, *, suspended: bool) -> None:
        self._space.batch.patch_namespaced_job(job, self._space.name, {"spec": {"suspend": suspended}})

    def _holds(self) -> bool:
        """Whether the API server goes by it already."""
        pod = {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}
        body = {"metadata": {"name": "try", "labels": {names.QUEUE: QUEUE}}, "spec": {"template": {"spec": pod}}}
        return bool(self._space.batch.create_namespaced_job(self._space.name, body, dry_run="All").spec.suspend)


@pytest.fixture(scope="module")
def space() -> Iterator[Namespace]:
    with namespace() as found:
        yield found


@pytest.fixture(scope="module")
def queue(space: Namespace) -> Iterator[Queue]:
    found = Queue(space)
    with found.holding_back():
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "templates.yaml").write_text(TEMPLATES)
    return tmp_path


def _service(space: Namespace, folder: Path) -> Service:
    flags = ("--backend", "kubernetes", "--namespace", space.name, "--image", IMAGE)
    return Service(folder, *flags, "--templates", str(folder / "templates.yaml"))


def _pods(space: Namespace, job: str) -> list[Any]:
    found: list[Any] = space.core.list_namespaced_pod(space.name, label_selector=f"{names.JOB_NAME}={job}").items
    return found


def _held_back(service: Service, space: Namespace) -> tuple[str, str]:
    """A call whose Job is there and suspended: its execution and its Job."""
    execution = service.submit(CALL)
    job = f"x-{execution.lower()}"
    space.wait(lambda: job in {item.metadata.name for item in space.jobs()})
    return execution, job


def test_a_call_waits_in_its_queue_and_says_so(space: Namespace, queue: Queue, folder: Path) -> None:
    """Its Job has no pod and names the queue; `explain` says what it waits for; admitted, it runs."""
    with _service(space, folder) as service:
        execution, job = _held_back(service, space)
        assert space.batch.read_namespaced_job(job, space.name).metadata.labels[names.QUEUE] == QUEUE
        assert _pods(space, job) == []
        words = f"its Job waits in queue '{QUEUE}' until Kueue admits it"
        space.wait(lambda: words in service.client.get(f"/executions/{execution}/explain").text)
        queue.admit(job)
        service.wait_output(execution, "before")
        service.client.delete(f"/executions/{execution}")
        assert service.wait(execution)["status"] == "cancelled"


def test_a_call_that_its_queue_ends_is_preempted(space: Namespace, queue: Queue, folder: Path) -> None:
    """The queue's words are the reason, what it had printed is kept, and nothing is left."""
    with _service(space, folder) as service:
        execution, job = _held_back(service, space)
        queue.admit(job)
        service.wait_output(execution, "before")
        queue.take_back(job)
        ended = service.wait(execution)
        assert (ended["status"], ended["reason"], ended["stdout"]) == ("failed", "preempted", "before\n")
        assert PREEMPTED in ended["message"]
        space.wait(lambda: not _pods(space, job))


def test_a_call_does_not_run_again_in_a_second_pod(space: Namespace, queue: Queue, folder: Path) -> None:
    """Taken back and admitted again while no service looks: the second pod gets nothing from the next service."""
    with _service(space, folder) as service:
        execution, job = _held_back(service, space)
        queue.admit(job)
        service.wait_output(execution, "before")
        (first,) = _pods(space, job)
        service.kill()
    queue.take_back(job)
    space.wait(lambda: not _pods(space, job))
    queue.admit(job)
    space.wait(lambda: [pod for pod in _pods(space, job) if pod.status.phase == "Running"])
    (second,) = _pods(space, job)
    assert second.metadata.uid != first.metadata.uid
    with _service(space, folder) as heir:
        ended = heir.wait(execution)
        assert (ended["status"], ended["reason"]) == ("failed", "preempted")
        assert ended["stdout"] in ("", "before\n"), "as much of it as the service that was killed had stored"
        assert ended["sandbox"]["pod_uid"] == first.metadata.uid
        space.wait(lambda: not _pods(space, job))
