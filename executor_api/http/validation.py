"""From the bytes of a body to an `ExecutionRequest`, or to sentences that name every wrong field as it was written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from executor_api.domain.request import ExecutionRequest
from executor_api.http.problems import INVALID_JSON, INVALID_REQUEST, FieldError, ProblemError

_MOST_ERRORS = 20
_MOST_MEMBERS = 100
"""An object of fixed fields with more members than this is refused without looking at each."""

Path = tuple[str | int, ...]

_SENTENCES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda _: "is missing",
    "extra_forbidden": lambda _: "is no field here",
    "string_type": lambda _: "must be text",
    "string_unicode": lambda _: "must be text that UTF-8 can carry",
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
    "value_error": lambda ctx: str(ctx["error"]),
}


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
            raise _of_errors([FieldError(name, f"has {len(tree)} fields", _allowed_names((name, "")))])


def _problem(error: ValidationError, tree: object) -> ProblemError:
    details = error.errors(include_url=False, include_input=False)
    if details[0]["type"] == "json_invalid":
        return ProblemError(INVALID_JSON, details[0]["ctx"]["error"])
    return _of_errors(_merge((_place(detail, tree), detail) for detail in details))


def _of_errors(errors: list[FieldError]) -> ProblemError:
    shown = errors[:_MOST_ERRORS]
    detail = "; ".join(f"{error.field or 'the body'} {error.message}" for error in shown[:3])
    more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""  # noqa: PLR2004  as sliced above
    return ProblemError(INVALID_REQUEST, detail + more, tuple(shown))


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


def _merge(found: Iterable[tuple[Path, ErrorDetails]]) -> list[FieldError]:
    """One error a place; of the ways to read one value, only those that came furthest into it."""
    sentences: dict[Path, list[str]] = {}
    allowed: dict[Path, tuple[str, ...]] = {}
    for path, detail in found:
        sentence = _sentence(detail)
        if sentence not in sentences.setdefault(path, []):
            sentences[path].append(sentence)
        allowed[path] = _allowed(path, detail)
    insides = {path[:length] for path in sentences for length in range(1, len(path))}
    return [
        FieldError(".".join(map(str, path)), " or ".join(sentences[path]), allowed[path])
        for path in sentences
        if path not in insides
    ]


def _sentence(detail: ErrorDetails) -> str:
    make = _SENTENCES.get(detail["type"])
    return make(detail.get("ctx", {})) if make else detail["msg"]


def _allowed(path: Path, detail: ErrorDetails) -> tuple[str, ...]:
    if detail["type"] == "extra_forbidden":
        return _allowed_names(path)
    if detail["type"] == "enum":
        return tuple(re.findall(r"'([^']*)'", detail["ctx"]["expected"]))
    return ()


def _allowed_names(path: Path) -> tuple[str, ...]:
    """Field names of the object that holds the last step of ``path``."""
    model: type[BaseModel] = ExecutionRequest
    for step in path[:-1]:
        field = model.model_fields.get(str(step))
        if field is not None:
            model = next((kind for kind in _models(field.annotation)), model)
    return tuple(model.model_fields)


def _models(annotation: Any) -> list[type[BaseModel]]:
    kinds = get_args(annotation) or (annotation,)
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
