"""Puts the HTTP edge together: routes, problems, authentication, metrics, the document."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from executor_api import __version__
from executor_api.domain.caller import Scope as Leave
from executor_api.errors import ExecutorError
from executor_api.http import docs_page, openapi, problems, status_page
from executor_api.http.audit import RefusalWatch
from executor_api.http.auth.access import Endpoint, needing
from executor_api.http.auth.door import OPEN_PATHS, BearerDoor, OpenDoor, is_loopback
from executor_api.http.body import LingeringResponse
from executor_api.http.metrics import Metrics
from executor_api.http.pool_metrics import PoolMetrics
from executor_api.http.routes import Api
from executor_api.http.share import TenantShare
from executor_api.http.status import StatusRoute

_METRICS, _STATUS = "/metrics", "/status"
_DESCRIPTION = """Runs each call in a sandbox of its own and tells the truth about how it ended.

A call that fails is an answer (`200`, with `status`, `reason` and all it printed); a service that fails is a problem
(`application/problem+json`). Every path below `/executions` also exists below `/v1/executions`, and `POST
/v1/executions` is `POST /execute`."""


def build(api: Api, metrics: Metrics, connections: int) -> Starlette:
    """The application, for a server with so many connections at most. Whoever made the service starts and stops it.

    Without ways to tell callers everybody is let in: who names this machine, or with ``no_auth`` all there are.
    """
    executions, operations, status = _executions(api), _operations(api, metrics), _status(api, metrics)
    routes = [
        *_served(executions),
        *_served(executions, "/v1"),
        *_served(operations),
        *_served(status),
        *_document([*executions.routes, *operations.routes, *status.routes]),
        *(_route(path, status_page.serve, "GET") for path in status_page.FILES),
    ]
    middleware = [
        Middleware(RefusalWatch, audit=api.service.audit),
        _door(api, metrics),
        Middleware(TenantShare, most=max(1, connections * 3 // 4), refused=metrics.rate_limited),
    ]
    app = Starlette(routes=routes, middleware=middleware)
    app.router.redirect_slashes = False
    _handle_problems(app, metrics)
    metrics.registry.register(PoolMetrics(api.service.pools))
    return app


def build_operations(api: Api, metrics: Metrics) -> Starlette:
    """Metrics and probes alone, for everybody who reaches them: what scrapes and probes carries no key."""
    door = Middleware(OpenDoor, here_only=is_loopback(api.settings.host))
    app = Starlette(routes=_served(_operations(api, metrics)), middleware=[door])
    app.router.redirect_slashes = False
    _handle_problems(app, metrics)
    return app


def _door(api: Api, metrics: Metrics) -> Middleware:
    if api.ways:
        return Middleware(BearerDoor, ways=api.ways, metrics=metrics)
    return Middleware(OpenDoor, here_only=not api.settings.no_auth)


def _served(described: APIRouter, prefix: str = "") -> list[Route]:
    """The routes without what FastAPI would do for each request: it only describes them."""
    found = [route for route in described.routes if isinstance(route, APIRoute)]
    return [_route(prefix + route.path, _guarded(route), *route.methods or ()) for route in found]


def _guarded(route: APIRoute) -> Endpoint:
    if route.path in OPEN_PATHS:
        return route.endpoint
    if route.path in (_METRICS, _STATUS):
        return needing(Leave.ADMIN, route.endpoint)
    return needing(Leave.READ if "GET" in (route.methods or ()) else Leave.EXECUTE, route.endpoint)


def _route(path: str, endpoint: Endpoint, *methods: str) -> Route:
    route = Route(path, endpoint)
    route.methods = set(methods)  # none that we didn't name
    return route


def _executions(api: Api) -> APIRouter:
    router = APIRouter(tags=["executions"])
    found = openapi.answers
    failures = openapi.failures

    def add(path: str, handler: Callable[..., Any], method: str, responses: Any, extra: Any = None) -> None:
        router.add_api_route(path, handler, methods=[method], responses=responses, openapi_extra=extra)

    execute = found("ExecutionAnswer", 200, 202, **openapi.EVENT_STREAM) | failures(*openapi.EXECUTE_FAILURES)
    add("/execute", api.execute, "POST", execute, openapi.EXECUTE)
    add("/executions", api.execute, "POST", execute, openapi.EXECUTE)
    kept_out = (problems.UNAUTHORIZED, problems.FORBIDDEN)
    one = failures(*kept_out, problems.NOT_FOUND, problems.UNAVAILABLE)
    add("/executions/{execution_id}", api.get, "GET", found("ExecutionAnswer", 200) | one, openapi.GET)
    add("/executions/{execution_id}", api.cancel, "DELETE", found("ExecutionAnswer", 200, 202) | one, openapi.CANCEL)
    listing = found("ExecutionPage", 200) | failures(
        *kept_out, problems.INVALID_PARAMETER, problems.INVALID_REQUEST, problems.UNAVAILABLE
    )
    add("/executions", api.list, "GET", listing, openapi.LIST)
    events = openapi.EVENT_ANSWERS | one | failures(problems.INVALID_HEADER, problems.INVALID_PARAMETER)
    add("/executions/{execution_id}/events", api.events, "GET", events, openapi.EVENTS)
    explained = found("ExplanationShape", 200) | one
    add("/executions/{execution_id}/explain", api.explain, "GET", explained, openapi.EXPLAIN)
    add("/pool", api.pool, "GET", found("PoolList", 200) | failures(*kept_out))
    add("/templates", api.templates, "GET", found("TemplateList", 200) | failures(*kept_out))
    return router


def _operations(api: Api, metrics: Metrics) -> APIRouter:
    router = APIRouter(tags=["operations"])

    async def expose(_request: Request) -> Response:
        """Metrics in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    metrics_answers = openapi.METRICS_ANSWERS | openapi.failures(problems.UNAUTHORIZED, problems.FORBIDDEN)
    router.add_api_route("/healthz", api.alive, methods=["GET"])
    router.add_api_route("/readyz", api.ready, methods=["GET"], responses=openapi.answers("HealthShape", 200, 503))
    router.add_api_route(_METRICS, expose, methods=["GET"], responses=metrics_answers)
    return router


def _status(api: Api, metrics: Metrics) -> APIRouter:
    router = APIRouter(tags=["operations"])
    answers = openapi.answers("StatusShape", 200) | openapi.failures(problems.UNAUTHORIZED, problems.FORBIDDEN)
    handler = StatusRoute(metrics, api.settings).status
    router.add_api_route(_STATUS, handler, methods=["GET"], responses=answers)
    return router


def _document(described: Sequence[BaseRoute]) -> list[Route]:
    """The OpenAPI document of these routes, for programs and for readers."""

    @functools.cache
    def document() -> dict[str, Any]:
        return openapi.document("executor-api", __version__, _DESCRIPTION, described)

    async def as_json(_request: Request) -> Response:
        return JSONResponse(document())

    async def as_page(_request: Request) -> Response:
        headers = {"Content-Security-Policy": docs_page.CONTENT_SECURITY_POLICY}
        return Response(docs_page.page(document()), headers=headers, media_type="text/html")

    return [_route("/openapi.json", as_json, "GET"), _route("/docs", as_page, "GET")]


def _allowed_methods(app: Starlette, scope: Scope) -> str:
    """What the path has in all its routes; the framework names those of the first one."""
    found = (
        method
        for method in ("GET", "POST", "DELETE")
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in app.routes)
    )
    return ", ".join(found)


def _handle_problems(app: Starlette, metrics: Metrics) -> None:
    def respond(request: Request, error: Exception) -> Response:
        problem = _problem(error)
        if problem.kind is problems.METHOD_NOT_ALLOWED:
            problem.headers["Allow"] = _allowed_methods(app, request.scope)
        if problem.kind in (problems.SATURATED, problems.RATE_LIMITED):
            metrics.rate_limited()
        kind = LingeringResponse if problem.unread else Response
        return problems.respond(request, problem, kind)

    for error in (problems.ProblemError, ExecutorError, HTTPException, Exception):
        app.add_exception_handler(error, respond)


def _problem(error: Exception) -> problems.ProblemError:
    """The problem that an exception becomes. What nobody foresaw says nothing of its inside; the server logs it."""
    if isinstance(error, problems.ProblemError):
        return error
    if isinstance(error, HTTPException):
        known = {404: problems.NOT_FOUND, 405: problems.METHOD_NOT_ALLOWED}.get(error.status_code, problems.INTERNAL)
        return problems.ProblemError(known, known.hint)
    found = problems.of_error(error) if isinstance(error, ExecutorError) else None
    return found or problems.ProblemError(problems.INTERNAL, problems.INTERNAL.hint)
