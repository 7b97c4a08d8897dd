"""What a caller's headers say of its trace, and the ids of an execution in it."""

from __future__ import annotations

import pytest

from executor_api.domain.trace_context import TraceContext, own_span_id, own_trace_id, trace_context
from executor_api.service.clock import new_ulid

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("value", [PARENT, PARENT.replace("00-4", "cc-4", 1) + "-future" * 9])
def test_a_trace_context_is_passed_on_as_far_as_it_is_known(value: str) -> None:
    """Of a later version, which may be of any length, goes on what every version has."""
    assert trace_context([value], []) == TraceContext(PARENT)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        ["x"],
        [PARENT.upper()],
        [PARENT + "-more"],
        [PARENT.replace("00-4", "ff-4", 1)],
        ["00-" + "0" * 32 + "-00f067aa0ba902b7-01"],
        ["00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01"],
        [PARENT + "\n"],
        [PARENT + "; rm -rf /"],
        [PARENT, PARENT],
    ],
)
def test_a_malformed_trace_context_is_none(values: list[str]) -> None:
    """W3C: a request with a broken ``traceparent``, or two, is treated as one without, and its ``tracestate`` too."""
    assert trace_context(values, ["a=1"]) is None


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ([], ""),
        (["a=1,b=2"], "a=1,b=2"),
        (["a=1", "t@v=x y, ,c=3"], "a=1,t@v=x y,c=3"),
        (["a"], ""),
        (["a=1,A=2"], ""),
        (["0a=1"], ""),
        (["a=1", "a=2"], ""),
        (["0t@v=1"], "0t@v=1"),
        (["a=\x07"], ""),
        (["a=\u00e9"], ""),
        ([",".join(f"a{n}=1" for n in range(33))], ""),
        (["a=" + "x" * 250 + ",b=" + "x" * 250 + ",c=" + "x" * 20], ""),
    ],
)
def test_vendors_state_is_passed_on_whole_or_not_at_all(values: list[str], state: str) -> None:
    """Several ``tracestate`` headers are one list; one that breaks its rules, or is too long, is dropped."""
    assert trace_context([PARENT], values) == TraceContext(PARENT, state)


def test_the_ids_of_an_execution_follow_from_its_own() -> None:
    """Whoever settles it finds the same; no two parts, and no two executions, have the same."""
    first, second = new_ulid(0.0), new_ulid(0.0)
    ids = [own_span_id(first), own_span_id(first, "run"), own_span_id(second), own_span_id(second, "run")]
    assert len(set(ids)) == 4
    assert ids == [own_span_id(first), own_span_id(first, "run"), own_span_id(second), own_span_id(second, "run")]
    assert all(0 < found < 2**64 for found in ids)
    assert own_trace_id(first) != own_trace_id(second)
    assert 0 < own_trace_id(first) < 2**128
