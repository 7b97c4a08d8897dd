"""The endings matrix on this machine."""

from __future__ import annotations

import pytest
from support.service import Service

from endings.conftest import Table
from endings.judge import cancel_while_running, judge
from endings.rows import ROWS, Row

TABLE = Table("local")


@pytest.mark.parametrize("row", [row for row in ROWS if "local" in row.backends], ids=lambda row: row.name)
def test_ending_is_reported_truthfully(local_service: Service, row: Row) -> None:
    """Each ending is reported as what it is, with what was printed before it."""
    answer = local_service.execute(row.request)
    TABLE.add(row.name, answer["status"], answer["reason"])
    judge(row, answer)


def test_cancel_while_running(local_service: Service) -> None:
    """A running call that is cancelled ends as cancelled and keeps its output."""
    answer = cancel_while_running(local_service)
    TABLE.add("cancel while running", answer["status"], answer["reason"])


def test_cancel_while_pending(local_service: Service) -> None:
    """A call that is cancelled in the queue never runs."""
    running = [local_service.submit({"command": "sleep 60"}) for _ in range(4)]
    pending = local_service.submit({"command": "echo ran"})
    assert local_service.get(pending)["status"] == "queued"
    local_service.client.delete(f"/executions/{pending}")
    answer = local_service.wait(pending)
    for execution_id in running:
        local_service.client.delete(f"/executions/{execution_id}")
        local_service.wait(execution_id)
    TABLE.add("cancel while pending", answer["status"], answer["reason"])
    assert (answer["status"], answer["stdout"], answer["started_at"]) == ("cancelled", "", None)
