"""Compares an answer with its row."""

from __future__ import annotations

from typing import Any

from support.service import Service

from endings.rows import Row


def judge(row: Row, answer: dict[str, Any]) -> None:
    """Assert that status, reason, output and every further check are as the row says."""
    assert (answer["status"], answer["reason"]) == (row.status, row.reason), answer["message"]
    assert row.contains in answer["stdout"], answer
    found = {path: _at(answer, path) for path in row.checks}
    assert found == row.checks


def cancel_while_running(service: Service) -> dict[str, Any]:
    """Cancel a call that has printed; assert that it ends as cancelled with its output, and return the answer."""
    execution_id = service.submit({"command": "echo before; sleep 60"})
    service.wait_output(execution_id, "before")
    service.client.delete(f"/executions/{execution_id}")
    answer = service.wait(execution_id)
    assert (answer["status"], answer["reason"], answer["stdout"]) == ("cancelled", "cancelled", "before\n")
    return answer


def _at(answer: dict[str, Any], path: str) -> Any:
    value: Any = answer
    for part in path.split("."):
        value = value[part]
    return value
