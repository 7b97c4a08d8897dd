"""Executions, pools and keys as text for people. Pure; colours are taken out where nobody sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

_COLORS = {"succeeded": "green", "failed": "red", "cancelled": "yellow"}
_HEADINGS = ("ID", "STATUS", "REASON", "TEMPLATE", "CREATED", "SECONDS")
_POOL_SHOWN = ("template", "desired", "ready", "starting", "taken", "hits", "waits", "misses", "conflicts")
_SHOWN = ("id", "status", "reason", "message", "exit_code", "signal", "template", "created_at", "start", "value")


def listing(executions: Sequence[Mapping[str, Any]]) -> str:
    """One line an execution, in columns."""
    return _columns([_HEADINGS, *(_row(execution) for execution in executions)])


def pools(found: Sequence[Mapping[str, Any]]) -> str:
    """One line a pool, in columns, and below what is wrong."""
    if not found:
        return "there is no warm pool; give a template one with pool.size, or `default` with --pool"
    rows = [tuple(str(pool[name]) for name in _POOL_SHOWN) for pool in found]
    problems = [f"{pool['template']}: {problem}" for pool in found for problem in pool["problems"]]
    return "\n".join([_columns([tuple(name.upper() for name in _POOL_SHOWN), *rows]), *problems])


def keys(rows: Sequence[Sequence[str]]) -> str:
    """One line a key, in columns."""
    return _columns([("ID", "EXPIRES", "TENANT", "SCOPES", "LABEL"), *rows])


def details(execution: Mapping[str, Any]) -> str:
    """What is known of one, a line a field, and what it printed."""
    lines = [f"{name}: {_cell(execution[name])}" for name in _SHOWN if execution[name] not in (None, "")]
    lines.append(f"seconds: {_seconds(execution)}")
    for stream in ("stdout", "stderr"):
        if execution[stream]:
            lines += [click.style(f"--- {stream}", bold=True), execution[stream].removesuffix("\n")]
    return "\n".join(lines)


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _row(execution: Mapping[str, Any]) -> tuple[str, ...]:
    cells = (execution[name] or "" for name in ("id", "status", "reason", "template"))
    return (*cells, execution["created_at"].partition(".")[0] + "Z", _seconds(execution))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = [f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)]
    color = _COLORS.get(row[1])
    if color is not None:
        padded[1] = click.style(padded[1], fg=color)
    return "  ".join(padded).rstrip()


def _cell(value: Any) -> str:
    return click.style(value, fg=_COLORS[value]) if value in _COLORS else str(value)


def _seconds(execution: Mapping[str, Any]) -> str:
    """From acceptance to the end."""
    if execution["finished_at"] is None:
        return "-"
    created, finished = (datetime.fromisoformat(execution[name]) for name in ("created_at", "finished_at"))
    return f"{(finished - created).total_seconds():.3f}"
