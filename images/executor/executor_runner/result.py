"""What the Python child says of its value or exception: user code's word, checked for shape only."""

from __future__ import annotations

import json
from typing import TypedDict, TypeGuard

from executor_runner.protocol.shapes import ExceptionInfo

_EXCEPTION_KEYS = {"type", "message", "traceback"}


class Findings(TypedDict, total=False):
    """The parts of a report that come from the child."""

    value_json: str
    exception: ExceptionInfo


def parse_result(text: bytes) -> Findings:
    """Return the optional parts of a report that ``text`` supports; nothing if it is cut or malformed."""
    findings = Findings()
    try:
        result = json.loads(text)
        value, exception = result.get("value"), result.get("exception")
        if isinstance(value, str):
            json.loads(value, parse_constant=_refuse)
            findings["value_json"] = value
        if _is_exception(exception):
            findings["exception"] = exception
    except (ValueError, AttributeError, RecursionError):
        return Findings()
    return findings


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _is_exception(value: object) -> TypeGuard[ExceptionInfo]:
    return isinstance(value, dict) and set(value) == _EXCEPTION_KEYS and all(isinstance(v, str) for v in value.values())
