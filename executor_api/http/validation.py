"""From the bytes of a body to an `ExecutionRequest`, or to sentences that name every wrong field as it was written."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import ValidationError

from executor_api.domain.request import ExecutionRequest
from executor_api.domain.validation import allowed_names, wrong_fields
from executor_api.errors import FieldProblem
from executor_api.http.problems import INVALID_JSON, INVALID_REQUEST, FieldError, ProblemError

_MOST_ERRORS = 20
_MOST_MEMBERS = 100
"""An object of fixed fields with more members than this is refused without looking at each."""


def parse_request(body: bytes) -> ExecutionRequest:
    """Check a body. Raises `ProblemError`: with line and column for bad JSON, else with every wrong field."""
    tree = _load(body)
    _check_size(tree)
    try:
        return ExecutionRequest.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise _problem(error, tree) from None


def _load(body: bytes) -> Any:
    """Parse strictly: what pydantic's parser lets pass (NaN, infinities, lone surrogates) is no JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}, position {error.pos}"
        raise ProblemError(INVALID_JSON, f"{place}: {error.msg}") from None


def _check_size(tree: object) -> None:
    for name in ("", "resources", "gpu"):
        if name:
            tree = tree.get(name) if isinstance(tree, dict) else None
        if isinstance(tree, dict) and len(tree) > _MOST_MEMBERS:
            raise _of_problems([FieldProblem(name, f"has {len(tree)} fields", allowed_names((name, "")))])


def _problem(error: ValidationError, tree: object) -> ProblemError:
    details = error.errors(include_url=False, include_input=False)
    if details[0]["type"] == "json_invalid":
        return ProblemError(INVALID_JSON, details[0]["ctx"]["error"])
    return _of_problems(wrong_fields(error, tree))


def _of_problems(problems: list[FieldProblem]) -> ProblemError:
    errors = [FieldError(problem.field, problem.message, problem.allowed) for problem in problems]
    shown = errors[:_MOST_ERRORS]
    detail = "; ".join(f"{error.field or 'the body'}: {error.message}" for error in shown[:3])
    more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""  # noqa: PLR2004  as sliced above
    return ProblemError(INVALID_REQUEST, detail + more, tuple(shown))
