"""One API key, as ASGI middleware: nothing behind it runs for a request without it."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from executor_api.http import problems
from executor_api.http.body import LingeringResponse

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
"""Probes carry no key, and the document describes the program, not this installation."""


class ApiKeyMiddleware:
    """Lets requests with ``Authorization: Bearer KEY`` through. ``refused`` is told of each one it stops."""

    def __init__(self, app: ASGIApp, api_key: str, refused: Callable[[], None]) -> None:
        self._app = app
        self._expected = api_key.encode()
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._holds_key(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        self._refused()
        problem = problems.ProblemError(
            problems.UNAUTHORIZED,
            "send this service's key as `Authorization: Bearer KEY`",
            headers={"WWW-Authenticate": "Bearer"},
            unread=True,
        )
        await problems.respond(Request(scope), problem, LingeringResponse)(scope, receive, send)

    def _holds_key(self, headers: Headers) -> bool:
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        given = credentials.strip().encode("latin-1")
        return scheme.lower() == "bearer" and hmac.compare_digest(given, self._expected)
