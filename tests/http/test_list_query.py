"""Query parameters of the list."""

from __future__ import annotations

import pytest
from starlette.datastructures import QueryParams

from executor_api.domain.outcome import Reason, Status
from executor_api.http.problems import INVALID_PARAMETER, ProblemError
from executor_api.http.query import PARAMETERS, ListQuery, list_query
from executor_api.service.store import ListFilter


def test_no_parameters_match_all() -> None:
    """The bare list is the newest page of everything."""
    assert list_query(QueryParams("")) == ListQuery(ListFilter(), 50, None)


def test_every_filter_is_read() -> None:
    """All filters can be combined; status and label can be repeated."""
    text = (
        "status=failed&status=cancelled&reason=timeout&template=gpu&label=a=1&label=b=x=y"
        "&created_after=2026-01-01T00:00:00Z&created_before=2026-01-01T02:00:00%2B01:00&limit=200&cursor=c"
    )
    where = ListFilter(
        statuses=frozenset({Status.FAILED, Status.CANCELLED}),
        reason="timeout",
        template="gpu",
        labels={"a": "1", "b": "x=y"},
        created_after=1767225600.0,
        created_before=1767229200.0,
    )
    assert list_query(QueryParams(text)) == ListQuery(where, 200, "c")


@pytest.mark.parametrize(
    ("text", "name", "allowed"),
    [
        ("status=done", "status", tuple(Status)),
        ("reason=bad", "reason", tuple(Reason)),
        ("state=failed", "state", PARAMETERS),
        ("limit=0", "limit", ()),
        ("limit=201", "limit", ()),
        ("limit=", "limit", ()),
        ("limit=٣", "limit", ()),
        ("limit=1&limit=2", "limit", ()),
        ("label=a", "label", ()),
        ("&".join(f"label=a{number}=b" for number in range(33)), "label", ()),
        ("created_after=yesterday", "created_after", ()),
        ("created_after=2026-01-01T00:00:00", "created_after", ()),
    ],
)
def test_a_wrong_parameter_is_named(text: str, name: str, allowed: tuple[str, ...]) -> None:
    """The problem names the parameter, and the allowed values where they are few."""
    with pytest.raises(ProblemError) as caught:
        list_query(QueryParams(text))
    (error,) = caught.value.errors
    assert (caught.value.kind, error.field, error.allowed) == (INVALID_PARAMETER, name, allowed)
