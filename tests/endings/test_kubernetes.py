"""The endings matrix on a cluster, and the endings only a cluster has."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.cluster import Namespace
from support.service import Service

from endings.conftest import Table
from endings.judge import cancel_while_running, judge
from endings.rows import ROWS, Row

pytestmark = pytest.mark.cluster
TABLE = Table("kubernetes")


@pytest.mark.parametrize("row", [row for row in ROWS if "kubernetes" in row.backends], ids=lambda row: row.name)
def test_ending_is_reported_truthfully(cluster_service: Service, row: Row) -> None:
    """Each ending is reported as what it is, with what was printed before it."""
    answer = cluster_service.execute(row.request)
    TABLE.add(row.name, answer["status"], answer["reason"])
    judge(row, answer)


def _break(service: Service, name: str, reason: str, disturb: Callable[[dict[str, str]], None]) -> None:
    """Run a long call, disturb its sandbox once it has printed, and check how it ended."""
    execution_id = service.submit({"command": "echo before; sleep 60", "timeout_seconds": 90})
    service.wait_output(execution_id, "before")
    disturb(service.get(execution_id)["sandbox"])
    answer = service.wait(execution_id)
    TABLE.add(name, answer["status"], answer["reason"])
    assert (answer["status"], answer["reason"], answer["stdout"]) == ("failed", reason, "before\n"), answer


def test_pod_deleted(cluster_service: Service, cluster_namespace: Namespace) -> None:
    """A call whose pod is deleted is lost, and keeps its output."""
    _break(
        cluster_service,
        "pod deleted",
        "sandbox_lost",
        lambda sandbox: cluster_namespace.delete_pod(sandbox["pod"]),
    )


def test_job_deleted(cluster_service: Service, cluster_namespace: Namespace) -> None:
    """A call whose Job is deleted is lost, and keeps its output."""
    _break(
        cluster_service,
        "Job deleted",
        "sandbox_lost",
        lambda sandbox: cluster_namespace.delete_job(sandbox["job"]),
    )


def test_node_cordoned_and_pod_evicted(cluster_service: Service, cluster_namespace: Namespace) -> None:
    """A call whose pod is evicted from a cordoned node says so, and keeps its output."""

    def drain(sandbox: dict[str, str]) -> None:
        with cluster_namespace.cordoned(sandbox["node"]):
            cluster_namespace.evict(sandbox["pod"])

    _break(cluster_service, "node cordoned, pod evicted", "evicted", drain)


def test_quota_exceeded(cluster_service: Service, cluster_namespace: Namespace) -> None:
    """A call that the namespace's quota has no room for says so."""
    with cluster_namespace.quota(pods="0"):
        answer = cluster_service.execute({"code": "print(1)"})
    TABLE.add("quota exceeded", answer["status"], answer["reason"])
    assert (answer["status"], answer["reason"], answer["stdout"]) == ("failed", "quota", ""), answer


def test_cancel_while_running(cluster_service: Service) -> None:
    """A running call that is cancelled ends as cancelled and keeps its output."""
    answer = cancel_while_running(cluster_service)
    TABLE.add("cancel while running", answer["status"], answer["reason"])


def test_cancel_while_pending(cluster_service: Service) -> None:
    """A call that is cancelled while its pod can't be scheduled never runs, and its Job goes."""
    execution_id = cluster_service.submit({"command": "echo ran", "template": "huge"})
    cluster_service.wait(execution_id, "starting")
    cluster_service.client.delete(f"/executions/{execution_id}")
    answer = cluster_service.wait(execution_id)
    TABLE.add("cancel while pending", answer["status"], answer["reason"])
    assert (answer["status"], answer["stdout"]) == ("cancelled", "")


def test_nothing_is_left(cluster_service: Service, cluster_namespace: Namespace) -> None:
    """After all these endings no Job and no pod of the service is left."""
    assert cluster_service.client.get("/readyz").status_code == 200
    cluster_namespace.wait_empty()
