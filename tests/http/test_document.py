"""The OpenAPI document tells the truth: real answers fit it, and its examples work."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import jsonschema
import pytest
from support.http_service import Service, ServiceMaker
from support.pool_status import pool

from executor_api.http.openapi import REQUEST_EXAMPLES, answer_example
from executor_api.http.problems import KINDS
from executor_api.http.validation import parse_request
from executor_runner.protocol.frames import FrameKind, encode_artifact

CALLS: dict[str, dict[str, Any]] = {
    "fine": {},
    "killed": {"exit_code": None, "signal": 9},
    "raised": {"exit_code": 1, "exception": {"type": "E", "message": "m", "traceback": "t"}},
    "binary": {"artifacts_skipped": ["big: too large"]},
}


def check(service: Service, name: str, value: Any) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": service.document["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


async def test_real_answers_fit_their_schemas(service: Service) -> None:
    """Every field of every answer is described, and every described field is there."""
    for code, changes in CALLS.items():
        frames = [(FrameKind.STDOUT, b"\xff"), (FrameKind.ARTIFACT, encode_artifact("a", b"\xff"))]
        service.backend.scripts[code] = (frames if code == "binary" else [], changes)
        check(service, "ExecutionAnswer", (await service.client.post("/execute", json={"code": code})).json())
    check(service, "ExecutionPage", (await service.client.get("/executions")).json())
    check(service, "TemplateList", (await service.client.get("/templates")).json())
    service.backend.statuses = (pool(problems=("none fits",)), pool(template="other", replacement_seconds=0.5))
    check(service, "PoolList", (await service.client.get("/pool")).json())
    check(service, "HealthShape", (await service.client.get("/readyz")).json())
    check(service, "StatusShape", (await service.client.get("/status")).json())
    check(service, "Problem", (await service.client.post("/execute", json={"code": 1, "x": 2})).json())
    unfinished = await service.client.get(f"/executions/{await service.waiting()}")
    check(service, "ExecutionAnswer", unfinished.json())
    explained = await service.client.get(f"/executions/{unfinished.json()['id']}/explain")
    check(service, "ExplanationShape", explained.json())


@pytest.mark.parametrize("example", REQUEST_EXAMPLES.values(), ids=REQUEST_EXAMPLES)
async def test_example_requests_are_accepted(service: Service, example: dict[str, Any]) -> None:
    """What the document shows can be sent as it is, and fits the schema of the body."""
    check(service, "ExecutionRequest", example)
    parse_request(service.client.build_request("POST", "/execute", json=example).content)


async def test_the_document_covers_every_route_and_problem(service: Service) -> None:
    """Every path and an example of each kind of problem are in it, and all its references lead somewhere."""
    document = service.document
    assert set(document["paths"]) == {
        "/execute",
        "/executions",
        "/executions/{execution_id}",
        "/executions/{execution_id}/events",
        "/executions/{execution_id}/explain",
        "/pool",
        "/templates",
        "/healthz",
        "/readyz",
        "/metrics",
        "/status",
    }
    shown = {
        name
        for path in document["paths"].values()
        for operation in path.values()
        for answer in operation["responses"].values()
        for name in answer.get("content", {}).get("application/problem+json", {}).get("examples", {})
    }
    assert shown == {kind.slug for kind in KINDS} - {"method-not-allowed"}
    for reference in _references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def test_the_answer_shown_is_one(service: Service) -> None:
    """The examples of answers fit the schemas of answers."""
    check(service, "ExecutionAnswer", answer_example())
    for path, schema in (("/pool", "PoolList"), ("/executions/{execution_id}/explain", "ExplanationShape")):
        content = service.document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
        for example in content["examples"].values():
            check(service, schema, example["value"])


async def test_the_page_needs_nothing_from_elsewhere(service: Service) -> None:
    """It shows every path, shape and example, links to what is in it, and loads nothing."""
    answer = await service.client.get("/docs")
    text = html.unescape(answer.text)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert not re.search(r"\bsrc=|<script|<link|@import|url\(", answer.text)
    assert all(path in text for path in service.document["paths"])
    links = set(re.findall(r'href="#([^"]+)"', answer.text))
    assert links <= set(re.findall(r'id="([^"]+)"', answer.text)) == set(service.document["components"]["schemas"])
    assert all(json.dumps(example, indent=2) in text for example in REQUEST_EXAMPLES.values())


async def test_the_document_is_there_without_a_key(make_service: ServiceMaker) -> None:
    """It describes the program; only what is in this installation needs the key."""
    service = await make_service(api_key="secret")
    assert (await service.client.get("/openapi.json")).status_code == 200
    assert (await service.client.get("/docs")).status_code == 200


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        found = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return found + [reference for item in value.values() for reference in _references(item)]
    return [reference for item in value for reference in _references(item)] if isinstance(value, list) else []
