"""Compares an answer with its row."""

from __future__ import annotations

from typing import Any

from endings.rows import Row


def judge(row: Row, answer: dict[str, Any]) -> None:
    """Assert that status, reason, output and every further check are as the row says."""
    assert (answer["status"], answer["reason"]) == (row.status, row.reason), answer["message"]
    assert row.contains in answer["stdout"], answer
    found = {path: _at(answer, path) for path in row.checks}
    assert found == row.checks


def _at(answer: dict[str, Any], path: str) -> Any:
    value: Any = answer
    for part in path.split("."):
        value = value[part]
    return value
