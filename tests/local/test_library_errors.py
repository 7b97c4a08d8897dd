"""What the library form says of a call that can't be run as it is."""

from __future__ import annotations

from typing import Any

import pytest

from executor_api import Executor
from executor_api.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("request_fields", "field", "message"),
    [
        ({}, "", "give exactly one of `code` and `command`"),
        ({"command": "ls", "code": "1"}, "", "give exactly one of `code` and `command`"),
        ({"command": "ls", "timeout": -1}, "timeout", "must be more than 0"),
        ({"command": "ls", "timeout": 5000}, "timeout", "3600"),
        ({"command": "ls", "tiemout": 5}, "tiemout", "is no field here"),
        ({"command": ["ls", 5]}, "command.1", "must be text"),
        ({"command": "ls", "env": {"1A": ""}}, "env", "is no variable name"),
        ({"command": "ls", "files": {"../a": ""}}, "files", "must be a relative path"),
        ({"command": "ls", "template": "none"}, "template", "is no template that you can use"),
        ({"code": "1", "language": "cobol"}, "language", "bash"),
        ({"code": "\ud800"}, "code", "must be text that UTF-8 can carry"),
        ({"code": "1", "function": "f", "args": [{1}]}, "args", "must be JSON"),
    ],
)
def test_a_call_that_cannot_run_names_the_field(
    executor: Executor, request_fields: dict[str, Any], field: str, message: str
) -> None:
    """By the name `run` has for it and in plain words, before any sandbox is taken."""
    with pytest.raises(InvalidRequestError) as caught:
        executor.run(**request_fields)
    (problem,) = caught.value.problems
    assert problem.field == field
    assert message in problem.message
    assert "Value error" not in str(caught.value)


def test_all_mistakes_are_told_at_once(executor: Executor) -> None:
    """One exception for three wrong fields."""
    with pytest.raises(InvalidRequestError) as caught:
        executor.run("ls", timeout=0, isolation="none", labels={"a b": ""})
    assert {problem.field for problem in caught.value.problems} == {"timeout", "isolation", "labels"}
    assert ("single_use", "reuse") in {problem.allowed for problem in caught.value.problems}


def test_a_closed_executor_says_so() -> None:
    """Closing twice does no harm; a call after that is a mistake of the caller."""
    executor = Executor.local()
    executor.close()
    executor.close()
    with pytest.raises(RuntimeError):
        executor.run("true")
