"""The call as the runner gets it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from executor_api.domain.plan import plan
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.runner_call import runner_call
from executor_api.domain.template import Language, Template
from executor_runner.protocol.frames import encode_json
from executor_runner.protocol.shapes import Call

TEMPLATE = Template(
    name="default",
    env={"A": "template", "B": "template"},
    languages={"node": Language(argv=("node", "{file}"), suffix=".js")},
)


def call(trace: dict[str, str] | None = None, **fields: Any) -> Call:
    request = ExecutionRequest.model_validate(fields)
    return runner_call(plan(request, {"default": TEMPLATE}), "id", "t", trace=trace)


@pytest.mark.parametrize(
    ("fields", "kind", "value"),
    [
        ({"command": "ls | wc"}, "argv", ["/bin/sh", "-c", "ls | wc"]),
        ({"command": ["ls", "-l"]}, "argv", ["ls", "-l"]),
        ({"code": "1"}, "python", {"code": "1", "function": None, "args": [], "kwargs": {}}),
        ({"code": "\ufeff1"}, "python", {"code": "1", "function": None, "args": [], "kwargs": {}}),
        ({"code": "1", "language": "python"}, "python", {"code": "1", "function": None, "args": [], "kwargs": {}}),
        (
            {"code": "1", "function": "f", "args": [2**70], "kwargs": {"a": None}},
            "python",
            {"code": "1", "function": "f", "args": [2**70], "kwargs": {"a": None}},
        ),
        ({"code": "1", "language": "node"}, "script", {"code": "1", "suffix": ".js", "argv": ["node", "{file}"]}),
    ],
)
def test_exactly_one_thing_runs(fields: dict[str, Any], kind: str, value: object) -> None:
    """A command, a Python source or a script, as asked; the other two are None. It survives the wire."""
    made = json.loads(encode_json(call(**fields)))
    assert {name: made[name] for name in ("argv", "python", "script")} == {
        "argv": None,
        "python": None,
        "script": None,
        kind: value,
    }


def test_environment_in_order_of_precedence() -> None:
    """Defaults, then the trace, then the template, then the request."""
    env = call({"TRACEPARENT": "00-trace"}, code="1", env={"B": "request", "LANG": "C"})["env"]
    assert env == {"LANG": "C", "TRACEPARENT": "00-trace", "A": "template", "B": "request"}
    assert "TRACEPARENT" not in call(code="1")["env"]


def test_a_trace_of_the_callers_own_choice_gets_no_other_ones_state() -> None:
    """A request that sets its own ``TRACEPARENT`` keeps it, alone."""
    env = call({"TRACEPARENT": "00-ours", "TRACESTATE": "a=1"}, code="1", env={"TRACEPARENT": "00-mine"})["env"]
    assert (env["TRACEPARENT"], "TRACESTATE" in env) == ("00-mine", False)


def test_bytes_travel_as_base64() -> None:
    """Files and standard input, whatever is in them."""
    made = call(code="1", stdin="ü", files={"a": {"base64": "/w=="}}, artifacts=["*.png"])
    assert (base64.b64decode(made["stdin"]), made["files"], made["artifacts"]) == (
        "ü".encode(),
        {"a": "/w=="},
        ["*.png"],
    )


def test_limits_are_numbers() -> None:
    """Quantities and limits of plan and template reach the runner in bytes and seconds."""
    made = call(code="1", timeout_seconds=2.5, resources={"memory": "1Gi"})
    assert (made["timeout_seconds"], made["grace_seconds"], made["execution_id"]) == (2.5, 1, "id")
    assert made["limits"] == {
        "memory_bytes": 2**30,
        "storage_bytes": 2**30,
        "processes": 1024,
        "open_files": 1024,
        "output_bytes": 2**20,
        "output_kill_bytes": None,
        "artifact_bytes": 8 * 2**20,
        "value_bytes": 2**20,
    }
