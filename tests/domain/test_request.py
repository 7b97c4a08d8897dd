"""Requests: what is refused, at which field; and that what is taken survives being written down and read again."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from executor_api.domain.request import ExecutionRequest

LONG = "x" * 140_000

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"code": "1", "command": "ls"}, ""),
    ({"command": "ls", "language": "bash"}, ""),
    ({"command": "ls", "function": "f"}, ""),
    ({"code": "1", "args": [1]}, ""),
    ({"code": "1", "kwargs": {"a": 1}}, ""),
    ({"code": "1", "function": "f", "language": "bash"}, ""),
    ({"code": "1", "function": "a.b"}, ""),
    ({"code": "1", "colour": "red"}, "colour"),
    ({"code": 1}, "code"),
    ({"code": "x" * (1024 * 1024 + 1)}, "code"),
    ({"code": "\ud800"}, "code"),
    ({"command": ""}, "command"),
    ({"command": []}, "command"),
    ({"command": ["  "]}, "command"),
    ({"command": "ls\0"}, "command"),
    ({"command": ["ls", "\0"]}, "command"),
    ({"command": LONG}, "command"),
    ({"command": ["x", LONG]}, "command"),
    ({"command": ["x" * 100_000] * 16}, "command"),
    ({"command": ["x"] * 1_000_000}, "command"),
    ({"code": "1", "stdin": "x" * (10 * 1024 * 1024 + 1)}, "stdin"),
    ({"code": "1", "env": {"1A": "x"}}, "env"),
    ({"code": "1", "env": {"A-B": "x"}}, "env"),
    ({"code": "1", "env": {"A": "\0"}}, "env"),
    ({"code": "1", "env": {"A": "x" * 70_000}}, "env"),
    ({"code": "1", "files": {"/etc/passwd": ""}}, "files"),
    ({"code": "1", "files": {"a/../../b": ""}}, "files"),
    ({"code": "1", "files": {"": ""}}, "files"),
    ({"code": "1", "files": {".": ""}}, "files"),
    ({"code": "1", "files": {"a\0": ""}}, "files"),
    ({"code": "1", "files": {"x" * 256: ""}}, "files"),
    ({"code": "1", "files": {"/".join(["x" * 200] * 6): ""}}, "files"),
    ({"code": "1", "files": {"a/": ""}}, "files"),
    ({"code": "1", "files": {"a/.": ""}}, "files"),
    ({"code": "1", "files": {"a/b": "", "a/./b": ""}}, "files"),
    ({"code": "1", "files": {"a/b/c": "", "a.txt": "", "a/b": ""}}, "files"),
    ({"code": "1", "files": {"a": 1}}, "files"),
    ({"code": "1", "files": {"a": {"base64": "%%%"}}}, "files"),
    ({"code": "1", "files": {"a": {"base64": "", "b": ""}}}, "files"),
    ({"code": "1", "files": {str(n): "" for n in range(1001)}}, "files"),
    ({"code": "1", "artifacts": ["/var/*"]}, "artifacts"),
    ({"code": "1", "artifacts": ["../*"]}, "artifacts"),
    ({"code": "1", "artifacts": ["*"] * 101}, "artifacts"),
    ({"code": "1", "timeout_seconds": 0}, "timeout_seconds"),
    ({"code": "1", "timeout_seconds": -1}, "timeout_seconds"),
    ({"code": "1", "timeout_seconds": 1e9}, "timeout_seconds"),
    ({"code": "1", "timeout_seconds": float("nan")}, "timeout_seconds"),
    ({"code": "1", "timeout_seconds": float("inf")}, "timeout_seconds"),
    ({"code": "1", "resources": {"cpu": "lots"}}, "resources.cpu"),
    ({"code": "1", "resources": {"memory": "-1Gi"}}, "resources.memory"),
    ({"code": "1", "resources": {"disk": "1Gi"}}, "resources.disk"),
    ({"code": "1", "resources": {"gpu": {"count": -1}}}, "resources.gpu.count"),
    ({"code": "1", "resources": {"gpu": {"count": 1.5}}}, "resources.gpu.count"),
    ({"code": "1", "resources": {"gpu": {"count": 1, "resource": "gpu"}}}, "resources.gpu.resource"),
    ({"code": "1", "isolation": "none"}, "isolation"),
    ({"code": "1", "labels": {"-a": "x"}}, "labels"),
    ({"code": "1", "labels": {"a": "x y"}}, "labels"),
    ({"code": "1", "labels": {"a": "x" * 64}}, "labels"),
    ({"code": "1", "labels": {"UPPER.example/a": "x"}}, "labels"),
    ({"code": "1", "labels": {"/a": "x"}}, "labels"),
    ({"code": "1", "labels": {str(n): "" for n in range(33)}}, "labels"),
]


@pytest.mark.parametrize(("body", "where"), REFUSED, ids=[str(body)[:50] for body, _ in REFUSED])
def test_bad_input_is_refused_at_its_field(body: dict[str, Any], where: str) -> None:
    """Each mistake names the field that has it, and never gets further."""
    with pytest.raises(ValidationError) as refusal:
        ExecutionRequest.model_validate(body)
    (first, *_) = refusal.value.errors()
    assert ".".join(map(str, first["loc"])).startswith(where)


TAKEN: list[dict[str, Any]] = [
    {"code": ""},
    {"code": "print(1)", "language": "bash", "stdin": "\0"},
    {"command": ["", "x"][1:], "env": {"_A1": "ü\n"}, "labels": {"example.org/a": "b_c.d-e", "x": ""}},
    {"code": "1", "function": "f", "args": [1, None, {"a": [2**70]}], "kwargs": {"b": 1.5}},
    {"code": "1", "files": {"a": "", "a.b": "", "b/a": "", "b/ab": "", "b//c": ""}},
    {"code": "1", "files": {"a/b.txt": "text", "c": {"base64": base64.b64encode(bytes(range(256))).decode()}}},
    {"code": "1", "resources": {"cpu": 1, "memory": "1.5Gi", "gpu": {"count": 0, "resource": "amd.com/gpu"}}},
    {"code": "1", "timeout_seconds": 0.001, "isolation": "reuse", "artifacts": ["out/**/*.png"]},
]


@pytest.mark.parametrize("body", TAKEN, ids=[str(body)[:50] for body in TAKEN])
def test_what_is_taken_survives_being_stored(body: dict[str, Any]) -> None:
    """A request read back from its own JSON is the same request, and its JSON the same text: digests rest on it."""
    request = ExecutionRequest.model_validate(body)
    text = request.model_dump_json()
    again = ExecutionRequest.model_validate_json(text)
    assert (again, again.model_dump_json()) == (request, text)


def test_file_contents_are_bytes_whatever_their_form() -> None:
    """Text is UTF-8, base64 is what it encodes."""
    request = ExecutionRequest.model_validate({"code": "1", "files": {"a": "ü", "b": {"base64": "/w=="}}})
    assert request.files == {"a": "ü".encode(), "b": b"\xff"}
