"""Request headers as values."""

from __future__ import annotations

import pytest

from executor_api.http import headers
from executor_api.http.problems import ProblemError


@pytest.mark.parametrize(
    ("values", "wait", "applied"),
    [
        ([], 300, None),
        (["respond-async"], 0, "respond-async"),
        (["Respond-Async"], 0, "respond-async"),
        (["wait=10"], 10, "wait=10"),
        (['wait="10"'], 10, "wait=10"),
        (["wait=0"], 0, "wait=0"),
        (["wait=900"], 300, "wait=300"),
        (["respond-async, wait=5"], 5, "wait=5"),
        (["respond-async", "wait=5;x=y"], 5, "wait=5"),
        (["wait=1, wait=2"], 1, "wait=1"),
        (["wait=soon"], 300, None),
        (["wait=-1"], 300, None),
        (["handling=lenient"], 300, None),
    ],
)
def test_prefer_says_how_long_to_wait(values: list[str], wait: float, applied: str | None) -> None:
    """RFC 7240: the first of equal preferences counts, what we don't know is ignored, and the longest wait is ours."""
    assert headers.preference(values, 300) == headers.Preference(wait, applied)


@pytest.mark.parametrize("value", ["", " ", "a b", "é", "x" * 256, "a\n"])
def test_idempotency_key_is_visible_ascii(value: str) -> None:
    """A key that could be mistaken for another is refused."""
    with pytest.raises(ProblemError, match="Idempotency-Key"):
        headers.idempotency_key(value)


def test_last_event_comes_from_header_or_parameter() -> None:
    """EventSource sends the header when it reconnects; whoever can't may use the parameter."""
    assert headers.last_event(None, None) == 0
    assert headers.last_event("7", "3") == 7
    assert headers.last_event(None, "3") == 3
    for wrong in ("-1", "x", "", "1.5", "9" * 30, "٣"):
        with pytest.raises(ProblemError, match="after"):
            headers.last_event(None, wrong)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [("text/event-stream", True), ("application/json, Text/Event-Stream;q=0.5", True), ("*/*", False), ("", False)],
)
def test_event_stream_must_be_asked_for(accept: str, wanted: bool) -> None:  # noqa: FBT001  a table's column
    """Only a client that names the type gets a stream."""
    assert headers.wants_events(accept) is wanted
