"""Output bytes as text, and events as they go over the wire."""

from __future__ import annotations

import orjson
import pytest

from executor_api.domain.execution import Execution, Output
from executor_api.domain.outcome import Outcome, Reason, Status
from executor_api.domain.request import ExecutionRequest
from executor_api.http.render import answer, instant, text_of
from executor_api.http.sse import TextCutter

EURO = "€".encode()


def execution(outcome: Outcome | None = None) -> Execution:
    return Execution(
        id="01",
        tenant="default",
        request=ExecutionRequest(code="1"),
        status=outcome.status if outcome else Status.RUNNING,
        created_at=0.0,
        timeout_seconds=60,
        template_digest="d",
        outcome=outcome,
    )


@pytest.mark.parametrize(
    ("data", "gap", "text", "exact"),
    [
        (b"", None, "", True),
        ("naïve €".encode(), None, "naïve €", True),
        (b"a\xffb", None, "a�b", False),
        (EURO[:2], None, "�", False),
        (b"headtail", (4, 10), "head\n[... 10 bytes dropped ...]\ntail", True),
        (b"tail", (0, 3), "\n[... 3 bytes dropped ...]\ntail", True),
        (EURO[:2] + EURO[2:], (2, 3), "�\n[... 3 bytes dropped ...]\n�", True),
        (b"\xffheadtail", (5, 10), "�head\n[... 10 bytes dropped ...]\ntail", False),
        (b"head\xff" + b"tail", (5, 10), "head�\n[... 10 bytes dropped ...]\ntail", False),
    ],
)
def test_output_becomes_text(data: bytes, gap: tuple[int, int] | None, text: str, exact: bool) -> None:  # noqa: FBT001
    """A gap is one line at its place, and a character cut by it does not make the output binary."""
    assert text_of(data, gap) == (text, exact)


def test_bytes_come_along_only_if_text_does_not_say_all() -> None:
    """Base64 is in the answer just for streams that are not UTF-8."""
    found = orjson.loads(answer(execution(), Output(b"a\xff", b"plain", None, None, {"b": b"\xff", "t": b"x"})))
    assert found["stdout_base64"] == "Yf8="
    assert "stderr_base64" not in found
    assert found["artifacts"] == {"b": {"base64": "/w=="}, "t": "x"}
    assert (found["stdout_bytes"], found["stderr_bytes"]) == (2, 5)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, null]}', {"a": [1, None]}),
        (r'"\ud83d\ude00"', "\U0001f600"),
        (r'["\uD800", 1e22, "\\ud800"]', ["?", 1e22, r"\ud800"]),
        ("NaN", None),
        ("[1", None),
        ("[" * 100_000, None),
        (None, None),
    ],
)
def test_value_is_the_childs_json_or_nothing(text: str | None, value: object) -> None:
    """A child that forges its value can't break the answer."""
    found = orjson.loads(answer(execution(Outcome(Status.SUCCEEDED, None, "", value_json=text))))
    assert found["value"] == value


def test_value_keeps_every_digit() -> None:
    """Integers beyond 64 bits go through unchanged."""
    digits = "123456789012345678901234567890"
    rendered = answer(execution(Outcome(Status.SUCCEEDED, None, "", value_json=digits)))
    assert f'"value":{digits}'.encode() in rendered


def test_lone_surrogates_do_not_break_the_answer() -> None:
    """What user code put into its exception can't make a 500 of its answer."""
    outcome = Outcome(
        Status.FAILED,
        Reason.EXCEPTION,
        "E: \ud800",
        exception={"type": "E", "message": "\ud800", "traceback": "\udfff"},
        artifacts_skipped=["\ud800: too large"],
    )
    found = orjson.loads(answer(execution(outcome), Output(b"", b"", None, None, {"\ud800": b""})))
    assert found["message"] == "E: ?"


def test_instants_are_rfc_3339_in_utc() -> None:
    """Times have milliseconds and a Z."""
    assert instant(1767225600.5) == "2026-01-01T00:00:00.500Z"


def test_events_never_cut_a_character() -> None:
    """A character that spans chunks waits for its rest."""
    cutter = TextCutter()
    assert cutter.feed(b"a" + EURO[:1]) == {"text": "a"}
    assert cutter.feed(EURO[1:2]) is None
    assert cutter.feed(EURO[2:] + b"b") == {"text": "€b"}
    assert cutter.feed(b"", last=True) is None


def test_events_keep_bytes_that_are_no_text() -> None:
    """Nothing is lost where a stream is not UTF-8: the held bytes come along as base64."""
    cutter = TextCutter()
    assert cutter.feed(EURO[:1]) is None
    assert cutter.feed(b"\xff") == {"base64": "4v8="}
    assert cutter.feed(b"text") == {"text": "text"}
    assert cutter.feed(EURO[:2]) is None
    assert cutter.feed(b"", last=True) == {"base64": "4oI="}
