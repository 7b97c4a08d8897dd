"""Reports off the wire: read if they are one and ours, else refused."""

from __future__ import annotations

import json

import pytest
from support.reports import report

from executor_api.domain.report import BadReportError, read_report
from executor_runner.protocol.frames import encode_json

FULL = report("id", value_json='"\\ud800"', exception={"type": "E", "message": "m", "traceback": "t"})


def test_a_report_reads_back() -> None:
    """All fields, optional ones included; the text of a value is not touched, even where it escapes a surrogate."""
    assert read_report(encode_json(FULL), "id") == FULL


def test_text_that_no_store_takes_is_replaced() -> None:
    """Lone surrogates in the user's words become question marks; other characters stay."""
    info = {"type": "E", "message": "a\ud800ü", "traceback": "\udfff"}
    read = read_report(encode_json(report("id", exception=info)), "id")
    assert read["exception"] == {"type": "E", "message": "a?ü", "traceback": "?"}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"{}",
        b"[1]",
        b"null",
        b"[" * 100_000,
        json.dumps({**FULL, "exit_code": "0"}).encode(),
        json.dumps({**FULL, "usage": None}).encode(),
        json.dumps({**FULL, "run_ms": float("nan")}).encode(),
        encode_json({**FULL, "execution_id": "other"}),
    ],
    ids=range(10),
)
def test_anything_else_is_refused(payload: bytes) -> None:
    """Cut, forged, wrongly typed or somebody else's: never half a report."""
    with pytest.raises(BadReportError) as refusal:
        read_report(payload, "id")
    assert len(str(refusal.value)) < 300
