"""Query parameters of the list, parsed into a filter. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from starlette.datastructures import QueryParams

from executor_api.domain.outcome import Reason, Status
from executor_api.domain.request import MAX_LABELS
from executor_api.http.problems import INVALID_PARAMETER, ProblemError, invalid
from executor_api.service.store import ListFilter

PARAMETERS = ("status", "reason", "template", "label", "created_after", "created_before", "limit", "cursor")
_REPEATABLE = frozenset({"status", "label"})
MOST_IN_PAGE = 200
_DEFAULT_LIMIT = 50

_Value = TypeVar("_Value")
_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What a client wants to see of the list."""

    where: ListFilter
    limit: int
    cursor: str | None


def list_query(params: QueryParams) -> ListQuery:
    """Read the parameters. Raises `ProblemError` naming the wrong one and what is allowed."""
    _check_names(params)
    where = ListFilter(
        statuses=frozenset(_choice("status", text, Status) for text in params.getlist("status")),
        reason=_optional(params, "reason", lambda text: _choice("reason", text, Reason).value),
        template=params.get("template"),
        labels=_labels(params.getlist("label")),
        created_after=_optional(params, "created_after", lambda text: _instant("created_after", text)),
        created_before=_optional(params, "created_before", lambda text: _instant("created_before", text)),
    )
    return ListQuery(where, _optional(params, "limit", _limit) or _DEFAULT_LIMIT, params.get("cursor"))


def _check_names(params: QueryParams) -> None:
    for name in params:
        if name not in PARAMETERS:
            raise _wrong(name[:64], "is no parameter here", *PARAMETERS)
        if name not in _REPEATABLE and len(params.getlist(name)) > 1:
            raise _wrong(name, "is given more than once")


def _optional(params: QueryParams, name: str, parse: Callable[[str], _Value]) -> _Value | None:
    text = params.get(name)
    return None if text is None else parse(text)


def _choice(name: str, text: str, choices: type[_Choice]) -> _Choice:
    try:
        return choices(text)
    except ValueError:
        raise _wrong(name, f"has no value {text[:64]!r}", *choices) from None


def _labels(texts: list[str]) -> dict[str, str]:
    if len(texts) > MAX_LABELS:
        raise _wrong("label", f"is given {len(texts)} times; an execution has at most {MAX_LABELS} labels")
    return dict(map(_label, texts))


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise _wrong("label", "must be written name=value")
    return name, value


def _instant(name: str, text: str) -> float:
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is not None:
            return instant.timestamp()
    except (ValueError, OverflowError):
        pass
    raise _wrong(name, "must be an instant with its zone, for example 2026-01-31T12:00:00Z (write + as %2B)")


def _limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= MOST_IN_PAGE:
        raise _wrong("limit", f"must be a whole number from 1 to {MOST_IN_PAGE}")
    return int(text)


def _wrong(name: str, message: str, *allowed: str) -> ProblemError:
    return invalid(INVALID_PARAMETER, name, message, *allowed)
