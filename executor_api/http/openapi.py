"""The OpenAPI document: bodies and answers that the routes read and write by hand, described with examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from executor_api.domain.execution import Execution, Output, SandboxDetails, Start, Timings
from executor_api.domain.outcome import Outcome, Status
from executor_api.domain.pool import PoolStatus
from executor_api.domain.request import ExecutionRequest
from executor_api.http import problems, render, schemas
from executor_api.http.status_shapes import StatusShape

_REF = "#/components/schemas/{model}"

REQUEST_EXAMPLES: dict[str, dict[str, Any]] = {
    "python": {"code": "print(sum(range(10)))"},
    "function": {"code": "def add(a, b):\n    return a + b", "function": "add", "args": [1, 2]},
    "bash": {"code": "for i in 1 2 3; do echo $i; done", "language": "bash", "timeout_seconds": 10},
    "shell command": {"command": "df -h | head -3"},
    "argv": {"command": ["ls", "-l", "/"]},
    "files and artifacts": {
        "code": "open('out.txt', 'w').write(open('in.txt').read().upper())",
        "files": {"in.txt": "hello", "raw.bin": {"base64": "AAEC"}},
        "artifacts": ["out.txt"],
    },
    "input, environment, labels": {
        "command": "cat; echo $NAME",
        "stdin": "text\n",
        "env": {"NAME": "value"},
        "labels": {"agent": "a1"},
    },
    "resources": {"code": "print(1)", "resources": {"cpu": "500m", "memory": "256Mi"}},
}

_HEADERS: list[dict[str, Any]] = [
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "1 to 255 visible ASCII characters. The same key and body: the same execution; another: 409.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    },
    {
        "name": "traceparent",
        "in": "header",
        "description": "W3C Trace Context, passed on to the call as TRACEPARENT. A malformed one is ignored.",
        "schema": {"type": "string"},
    },
    {
        "name": "tracestate",
        "in": "header",
        "description": "W3C Trace Context, passed on with it as TRACESTATE.",
        "schema": {"type": "string"},
    },
]
_PREFER = {
    "name": "Prefer",
    "in": "header",
    "description": "`respond-async` answers 202 at once; `wait=N` waits up to N seconds for the end.",
    "schema": {"type": "string"},
}
_LIST_PARAMETERS = {
    "status": {"type": "array", "items": {"$ref": _REF.format(model="Status")}},
    "reason": {"$ref": _REF.format(model="Reason")},
    "template": {"type": "string"},
    "label": {"type": "array", "items": {"type": "string", "examples": ["agent=a1"]}},
    "created_after": {"type": "string", "format": "date-time"},
    "created_before": {"type": "string", "format": "date-time"},
    "limit": {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
    "cursor": {"type": "string"},
}

EXECUTE: dict[str, Any] = {
    "parameters": [*_HEADERS, _PREFER],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": _REF.format(model="ExecutionRequest")},
                "examples": {name: {"value": example} for name, example in REQUEST_EXAMPLES.items()},
            }
        },
    },
}
_ID = {"name": "execution_id", "in": "path", "required": True, "schema": {"type": "string"}}
GET: dict[str, Any] = {"parameters": [_ID, _PREFER]}
CANCEL: dict[str, Any] = {"parameters": [_ID]}
EXPLAIN = CANCEL
LIST: dict[str, Any] = {
    "parameters": [{"name": name, "in": "query", "schema": schema} for name, schema in _LIST_PARAMETERS.items()]
}
EVENTS: dict[str, Any] = {
    "parameters": [
        _ID,
        {"name": "Last-Event-ID", "in": "header", "schema": {"type": "integer", "minimum": 0}},
        {"name": "after", "in": "query", "schema": {"type": "integer", "minimum": 0}},
    ]
}
_EVENTS_EXAMPLE = (
    'id: 2\nevent: status\ndata: {"status":"starting","at":"2026-01-31T12:00:00.000Z","note":"..."}\n\n'
    'id: 3\nevent: status\ndata: {"status":"running","at":"2026-01-31T12:00:00.000Z"}\n\n'
    'id: 4\nevent: stdout\ndata: {"text":"hello\\n"}\n\n'
    'id: 5\nevent: stderr\ndata: {"base64":"/w=="}\n\n'
    'id: 6\nevent: gap\ndata: {"stream":"stdout","dropped_bytes":4096}\n\n'
    'id: 7\nevent: artifact\ndata: {"path":"out.txt","size":5}\n\n'
    'id: 8\nevent: finished\ndata: {"id":"01K...","status":"succeeded"}\n\n'
)
EVENT_STREAM: dict[str, Any] = {
    "text/event-stream": {
        "schema": {"$ref": _REF.format(model="ServerSentEvent")},
        "examples": {"events": {"value": _EVENTS_EXAMPLE}},
    }
}
EVENT_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Events, the last one `finished` with the whole execution", "content": EVENT_STREAM},
    204: {"description": "The client has all of them"},
}
METRICS_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}},
}
EXECUTE_FAILURES = tuple(
    kind
    for kind in problems.KINDS
    if kind not in (problems.NOT_FOUND, problems.METHOD_NOT_ALLOWED, problems.INVALID_PARAMETER)
)


def failures(*kinds: problems.Kind) -> dict[int | str, dict[str, Any]]:
    """Response descriptions of these kinds of problems, each with its example."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        shown = found.setdefault(
            kind.status,
            {"description": kind.title, "content": {problems.MEDIA_TYPE: _no_examples()}, **_headers(kind.status)},
        )
        shown["content"][problems.MEDIA_TYPE]["examples"][kind.slug] = {"summary": kind.hint, "value": _example(kind)}
    return found


def answers(model: str, *statuses: int, **more: Any) -> dict[int | str, dict[str, Any]]:
    """Response descriptions of one JSON shape of `schemas`."""
    shown: dict[str, Any] = {"schema": {"$ref": _REF.format(model=model)}}
    if model == "ExecutionAnswer":
        shown["examples"] = {"finished": {"value": answer_example()}}
    elif model in _EXAMPLES:
        shown["examples"] = {name: {"value": example} for name, example in _EXAMPLES[model].items()}
    content = {"application/json": shown, **more}
    return {
        status: {
            "description": _DESCRIPTIONS[status],
            "content": content,
            **(_headers(status) if status == ACCEPTED else {}),
        }
        for status in statuses
    }


def answer_example() -> dict[str, Any]:
    """A finished execution as the service would render it."""
    began = 1_769_860_800.0
    execution = Execution(
        id="01KG9VYTG0QJ9V2C7XH9D0M3ZB",
        tenant="default",
        request=ExecutionRequest(**REQUEST_EXAMPLES["python"]),
        status=Status.SUCCEEDED,
        created_at=began,
        started_at=began + 0.002,
        finished_at=began + 0.006,
        timeout_seconds=60,
        template_digest="",
        sandbox=SandboxDetails(name="x-01kg9vytg0qj9v2c7xh9d0m3zb", backend="local"),
        start=Start.WARM,
        timings=Timings(queue=0.1, claim=1.2, create=0.1, run=3.4, collect=0.2, total=5.8),
        outcome=Outcome(
            Status.SUCCEEDED,
            None,
            "",
            exit_code=0,
            stdout_bytes=3,
            usage={"cpu_seconds": 0.004, "peak_memory_bytes": 14_028_800},
            processes={"left_behind": 0, "zombies": 0, "unkillable": 0},
        ),
    )
    example: dict[str, Any] = orjson.loads(render.answer(execution, Output(b"45\n", b"", None, None, {})))
    return example


_POOL = PoolStatus(
    template="default",
    digest="4f0c9a1e2b7d",
    desired=10,
    ready=6,
    starting=2,
    taken=2,
    hits=91,
    waits=4,
    misses=5,
    conflicts=1,
    held=2,
    replacement_seconds=0.41,
    refill_per_second=6.2,
    changed_at=1_769_860_788.0,
    problems=("2 sandboxes pending for 41 s: Insufficient memory",),
)
_EXPLANATION = {
    "id": "01KG9VYTG0QJ9V2C7XH9D0M3ZB",
    "summary": "It failed after 1.2 s (out_of_memory): the call used more memory than its limit of 512Mi.",
    "sentences": [
        "A sandbox was made for it, because all waiting sandboxes are taken (4 in use, 2 being made, 0 calls wait).",
        "Ask for more `resources.memory`, or hold less in memory at once.",
        "Phases: create 8.1 ms, schedule 12 ms, start 210 ms, run 950 ms; most of it was run.",
    ],
}
_EXAMPLES: dict[str, dict[str, Any]] = {
    "PoolList": {
        "one pool": {"pools": [render.pool(_POOL, 1_769_860_800.0)]},
        "local backend": {"pools": []},
    },
    "ExplanationShape": {"failed": _EXPLANATION},
}
ACCEPTED = 202


def _headers(status: int) -> dict[str, Any]:
    name, meaning = {
        ACCEPTED: ("Location", "Where to look for the result."),
        429: ("Retry-After", "Seconds."),
        503: ("Retry-After", "Seconds."),
    }.get(status, ("", ""))
    return {"headers": {name: {"description": meaning, "schema": {"type": "string"}}}} if name else {}


_DESCRIPTIONS = {200: "Done", 202: "Accepted; the call goes on", 503: "Not ready"}
_SECURITY = {"type": "http", "scheme": "bearer", "description": "An API key or token, if the service asks who calls."}


def document(title: str, version: str, description: str, routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The document of these routes, with the request's schema and the shapes of the answers."""
    found = get_openapi(title=title, version=version, description=description, routes=routes)
    found["components"] = {"schemas": _components(), "securitySchemes": {"key": _SECURITY}}
    found["security"] = [{}, {"key": []}]
    return found


def _components() -> dict[str, Any]:
    found: dict[str, Any] = {}
    models = (
        ExecutionRequest,
        schemas.ExecutionAnswer,
        schemas.ExecutionPage,
        schemas.TemplateList,
        schemas.PoolList,
        schemas.ExplanationShape,
        schemas.HealthShape,
        StatusShape,
        schemas.ServerSentEvent,
        schemas.Problem,
    )
    for model in models:
        schema = model.model_json_schema(ref_template=_REF, mode="validation")
        found |= schema.pop("$defs", {})
        found[model.__name__] = schema
    return found


def _no_examples() -> dict[str, Any]:
    return {"schema": {"$ref": _REF.format(model="Problem")}, "examples": {}}


def _example(kind: problems.Kind) -> dict[str, Any]:
    example = {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": kind.title,
        "instance": "/execute",
    }
    if kind is problems.INVALID_REQUEST:
        wrong = {"field": "isolation", "message": "must be 'single_use' or 'reuse'", "allowed": ["single_use", "reuse"]}
        return example | {"detail": "isolation must be 'single_use' or 'reuse'", "errors": [wrong]}
    return example
