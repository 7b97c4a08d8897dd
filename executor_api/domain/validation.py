"""From pydantic's errors to sentences that name every wrong field as it was written, and what would do. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from executor_api.domain.request import ExecutionRequest
from executor_api.errors import FieldProblem

Path = tuple[str | int, ...]

_NO_UTF8 = "must be text that UTF-8 can carry"
_SENTENCES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda _: "is missing",
    "extra_forbidden": lambda _: "is no field here",
    "string_type": lambda _: "must be text",
    "string_unicode": lambda _: _NO_UTF8,
    "float_type": lambda _: "must be a number",
    "int_type": lambda _: "must be a whole number",
    "int_from_float": lambda _: "must be a whole number",
    "bool_type": lambda _: "must be true or false",
    "list_type": lambda _: "must be a list",
    "dict_type": lambda _: "must be an object",
    "model_type": lambda _: "must be an object",
    "finite_number": lambda _: "must be a finite number",
    "greater_than": lambda ctx: f"must be more than {ctx['gt']:g}",
    "greater_than_equal": lambda ctx: f"must be at least {ctx['ge']:g}",
    "less_than_equal": lambda ctx: f"must be at most {ctx['le']:g}",
    "string_too_long": lambda ctx: f"is longer than {ctx['max_length']} characters",
    "too_long": lambda ctx: f"has more than {ctx['max_length']} entries",
    "enum": lambda ctx: f"must be {ctx['expected']}",
    "value_error": lambda ctx: _NO_UTF8 if isinstance(ctx["error"], UnicodeError) else str(ctx["error"]),
}


def wrong_fields(error: ValidationError, tree: object) -> list[FieldProblem]:
    """Every mistake in ``tree``, which was checked as an `ExecutionRequest`, at the place it has there."""
    details = error.errors(include_url=False, include_input=False)
    return _merge((_place(detail, tree), detail) for detail in details)


def allowed_names(path: Path) -> tuple[str, ...]:
    """Field names of the object that holds the last step of ``path``."""
    model: type[BaseModel] = ExecutionRequest
    for step in path[:-1]:
        field = model.model_fields.get(str(step))
        if field is not None:
            model = next((kind for kind in _models(field.annotation)), model)
    return tuple(model.model_fields)


def _place(detail: ErrorDetails, tree: Any) -> Path:
    """Where the client wrote it: pydantic's path without the steps that only name its own schema."""
    path: list[str | int] = []
    for step in detail["loc"]:
        written = (isinstance(tree, dict) and step in tree) or (isinstance(tree, list) and isinstance(step, int))
        if written:
            tree = tree[step]
        elif detail["type"] != "missing":
            continue
        path.append(step)
    return tuple(path)


def _merge(found: Iterable[tuple[Path, ErrorDetails]]) -> list[FieldProblem]:
    """One error a place; of the ways to read one value, only those that came furthest into it."""
    places: dict[Path, list[ErrorDetails]] = {}
    for path, detail in found:
        places.setdefault(path, []).append(detail)
    insides = {path[:length] for path in places for length in range(1, len(path))}
    return [_problem(path, details) for path, details in places.items() if path not in insides]


def _problem(path: Path, details: list[ErrorDetails]) -> FieldProblem:
    right_kind = [detail for detail in details if not detail["type"].endswith("_type")]
    sentences = dict.fromkeys(map(_sentence, right_kind or details))
    return FieldProblem(".".join(map(str, path)), " or ".join(sentences), _allowed(path, details[-1]))


def _sentence(detail: ErrorDetails) -> str:
    make = _SENTENCES.get(detail["type"])
    return make(detail.get("ctx", {})) if make else detail["msg"]


def _allowed(path: Path, detail: ErrorDetails) -> tuple[str, ...]:
    if detail["type"] == "extra_forbidden":
        return allowed_names(path)
    if detail["type"] == "enum":
        return tuple(re.findall(r"'([^']*)'", detail["ctx"]["expected"]))
    return ()


def _models(annotation: Any) -> list[type[BaseModel]]:
    kinds = get_args(annotation) or (annotation,)
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
