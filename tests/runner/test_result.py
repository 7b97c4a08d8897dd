"""What the child says of its value: believed for its shape only."""

from __future__ import annotations

import json

import pytest

from executor_runner.result import parse_result

EXCEPTION = {"type": "ValueError", "message": "no", "traceback": "Traceback\n"}


def test_value_and_exception_are_taken() -> None:
    """A value that is JSON and an exception of the right shape are passed on."""
    text = json.dumps({"value": '{"a":[1]}', "exception": EXCEPTION}).encode()
    assert parse_result(text) == {"value_json": '{"a":[1]}', "exception": EXCEPTION}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b'{}{"value":"1"}',
        b"\xff",
        b"[" * 100_000,
        b'{"value":1}',
        b'{"value":"{"}',
        b'{"value":"NaN"}',
        b'{"value":"' + b"[" * 100_000 + b'"}',
        b'{"exception":"x"}',
        b'{"exception":{"type":"x"}}',
        b'{"exception":{"type":1,"message":"","traceback":""}}',
    ],
    ids=lambda text: repr(text[:24]),
)
def test_anything_else_counts_as_nothing(text: bytes) -> None:
    """What is cut, forged or not JSON yields nothing and never an error."""
    assert parse_result(text) == {}
