"""The runner's report off the wire: checked, and made of text that can be stored and sent on. Pure."""

from __future__ import annotations

import json

import msgspec

from executor_runner.protocol.shapes import Report

_decode = msgspec.json.Decoder(Report).decode


class BadReportError(ValueError):
    """The bytes are no report, or not this execution's."""


def read_report(payload: bytes, execution_id: str) -> Report:
    """Decode a report. Raises `BadReportError`.

    An exception's message is the user's and may hold lone surrogates, which no UTF-8 can carry on: they become '?'.
    """
    try:
        report = _decode(payload)
    except msgspec.DecodeError:
        report = _decode_leniently(payload)
    if report["execution_id"] != execution_id:
        raise BadReportError(f"a report about another execution, {report['execution_id'][:64]!r}")
    return report


def _decode_leniently(payload: bytes) -> Report:
    try:
        text = json.dumps(json.loads(payload), ensure_ascii=False)
        return _decode(text.encode("utf-8", "replace"))
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise BadReportError(f"not a report: {error}") from None
