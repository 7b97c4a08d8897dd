"""Who may call, as ASGI middleware: who has the API key, or, without one, who is on this machine."""

from __future__ import annotations

import hmac
import ipaddress
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


class LoopbackMiddleware:
    """Where there is no key: lets requests through that name this machine as the host they want.

    Listening on loopback keeps other machines out, but not the pages of a browser on this one: a name of theirs can be
    made to resolve to 127.0.0.1 (DNS rebinding).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        host = Headers(scope=scope).get("host") if scope["type"] == "http" else None
        if host is None or is_loopback(_name(host)):
            await self._app(scope, receive, send)
            return
        problem = problems.ProblemError(
            problems.FORBIDDEN,
            f"Host {host[:128]!r} is not this machine; a service without an API key answers to localhost only",
            unread=True,
        )
        await problems.respond(Request(scope), problem, LingeringResponse)(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Whether a name or address can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name(host: str) -> str:
    """Without the port, and without the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
