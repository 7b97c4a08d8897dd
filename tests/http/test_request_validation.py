"""From a body to a request, or to sentences for the one who wrote it."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from executor_api.domain.request import ExecutionRequest
from executor_api.http.problems import INVALID_JSON, INVALID_REQUEST, ProblemError
from executor_api.http.validation import parse_request

REQUEST_FIELDS = tuple(ExecutionRequest.model_fields)


def refusal(body: bytes | dict[str, Any]) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        parse_request(body if isinstance(body, bytes) else json.dumps(body).encode())
    return caught.value


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ([], "", "must be an object"),
        ({}, "", "give exactly one of `code` and `command`"),
        ({"code": "1", "command": "ls"}, "", "give exactly one of `code` and `command`"),
        ({"code": 1}, "code", "must be text"),
        ({"code": "x" * (1024 * 1024 + 1)}, "code", "is longer than 1048576 bytes"),
        ({"command": 5}, "command", "must be text or must be a list"),
        ({"command": ["ls", 5]}, "command.1", "must be text"),
        ({"command": ["a\0"]}, "command.0", "contains a NUL character"),
        ({"command": []}, "command", "is empty"),
        ({"code": "1", "timeout_seconds": "5"}, "timeout_seconds", "must be a number"),
        ({"code": "1", "timeout_seconds": True}, "timeout_seconds", "must be a number"),
        ({"code": "1", "timeout_seconds": -1}, "timeout_seconds", "must be more than 0"),
        ({"code": "1", "timeout_seconds": 1e300}, "timeout_seconds", "must be at most 604800"),
        ({"code": "1", "isolation": "x"}, "isolation", "must be 'single_use' or 'reuse'"),
        ({"code": "1", "resources": 5}, "resources", "must be an object"),
        ({"code": "1", "resources": {"cpu": "lots"}}, "resources.cpu", "is not a quantity"),
        ({"code": "1", "resources": {"gpu": {}}}, "resources.gpu.count", "is missing"),
        ({"code": "1", "resources": {"gpu": {"count": 1.5}}}, "resources.gpu.count", "must be a whole number"),
        ({"code": "1", "resources": {"gpu": {"count": 1, "resource": "gpu"}}}, "resources.gpu.resource", "nvidia.com"),
        ({"code": "1", "files": {"a.txt": 5}}, "files.a.txt", "must be text or"),
        ({"code": "1", "files": {"a": {"base64": "?"}}}, "files.a", "is not valid base64"),
        ({"code": "1", "files": {"/etc/passwd": ""}}, "files", "must be a relative path"),
        ({"code": "1", "files": {"a/../../b": ""}}, "files", "must be a relative path"),
        ({"code": "1", "files": {"a\0": ""}}, "files", "NUL"),
        ({"code": "1", "artifacts": ["../*"]}, "artifacts", "must be a relative path"),
        ({"code": "1", "env": {"1A": ""}}, "env", "is no variable name"),
        ({"code": "1", "env": {"A": "\0"}}, "env.A", "NUL"),
        ({"code": "1", "labels": {"a": "not a label"}}, "labels", "is no Kubernetes label value"),
        ({"code": "1", "labels": {"a b": ""}}, "labels", "is no Kubernetes label name"),
        ({"code": "1", "args": [1]}, "", "need a `function`"),
    ],
)
def test_names_the_wrong_field_in_plain_words(body: Any, field: str, message: str) -> None:
    """Every wrong field is named as the client wrote it, with what is wanted instead."""
    problem = refusal(body)
    assert problem.kind is INVALID_REQUEST
    assert [error.field for error in problem.errors] == [field]
    assert message in problem.errors[0].message
    assert "Input should" not in problem.detail


def test_a_value_of_the_right_kind_is_not_asked_to_be_another() -> None:
    """A command may be text or a list; of a wrong text only what is wrong with it is told."""
    with pytest.raises(ProblemError) as caught:
        parse_request(json.dumps({"command": "a\0"}).encode())
    (error,) = caught.value.errors
    assert error.message.endswith("remove it")


@pytest.mark.parametrize(
    ("body", "field", "allowed"),
    [
        ({"code": "1", "tiemout": 1}, "tiemout", REQUEST_FIELDS),
        ({"code": "1", "resources": {"ram": 1}}, "resources.ram", ("cpu", "memory", "ephemeral_storage", "gpu")),
        ({"code": "1", "resources": {"gpu": {"count": 1, "x": 1}}}, "resources.gpu.x", ("count", "resource")),
        ({"code": "1", "isolation": "none"}, "isolation", ("single_use", "reuse")),
    ],
)
def test_lists_what_would_be_allowed(body: dict[str, Any], field: str, allowed: tuple[str, ...]) -> None:
    """An unknown field or value comes with the names that exist at its place."""
    (error,) = refusal(body).errors
    assert (error.field, error.allowed) == (field, allowed)


def test_tells_all_wrong_fields_at_once() -> None:
    """A client with three mistakes needs one round trip to learn of them."""
    problem = refusal({"code": 1, "timeout_seconds": 0, "isolation": "x"})
    assert {error.field for error in problem.errors} == {"code", "timeout_seconds", "isolation"}


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", "line 1, column 1, position 0"),
        (b'{"code":\n  tru}', "line 2, column 3"),
        (b'{"code": "', "line 1"),
        (b'{"code": "\xff"}', "UTF-8"),
        (b'{"code": "\\ud800"}', "surrogate"),
        (b'{"code": "", "function": "f", "args": [NaN]}', "position 39"),
        (b'{"code": "", "function": "f", "args": [1e999]}', "position 39"),
        (b'{"code": "", "function": "f", "args": [' + b"9" * 5000 + b"]}", "position 39"),
        (b"[" * 100_000, "depth"),
        (b'{"code":"","function":"f","args":' + b"[" * 500 + b"]" * 500 + b"}", "recursion limit"),
    ],
)
def test_says_where_json_is_broken(body: bytes, place: str) -> None:
    """What is no JSON, or no JSON that can be carried on, is refused with its place."""
    problem = refusal(body)
    assert problem.kind is INVALID_JSON
    assert place in problem.detail


@pytest.mark.parametrize(
    "body",
    [
        b'{"command":[' + b"1," * 500_000 + b"1]}",
        b'{"code":"","env":{' + b'"x":1,' * 200_000 + b'"x":1}}',
        b'{"code":"","env":{' + b",".join(b'"%d":1' % n for n in range(100_000)) + b"}}",
        b'{"code":"","labels":{' + b",".join(b'"%d":1' % n for n in range(100_000)) + b"}}",
        b"{" + b",".join(b'"%d":1' % n for n in range(100_000)) + b"}",
        b'{"resources":{' + b",".join(b'"%d":1' % n for n in range(100_000)) + b"}}",
    ],
    ids=["argv", "same name", "env", "labels", "fields", "nested fields"],
)
def test_a_million_mistakes_cost_no_more_than_the_body(body: bytes) -> None:
    """A body made of mistakes does not turn into gigabytes of error objects."""
    tracemalloc.start()
    try:
        problem = refusal(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert problem.kind is INVALID_REQUEST
    assert len(problem.errors) <= 20
    assert peak < 40 * len(body)


def test_big_integers_stay_exact() -> None:
    """Numbers that no float can hold reach the call digit by digit."""
    body = b'{"code": "", "function": "f", "args": [123456789012345678901234567890]}'
    assert parse_request(body).args == [123456789012345678901234567890]
