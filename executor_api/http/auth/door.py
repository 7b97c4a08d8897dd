"""The door, as ASGI middleware: asks who calls, or, where nobody is asked, lets in who is on this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from executor_api.domain.caller import DEFAULT_TENANT, Caller
from executor_api.errors import UnavailableError
from executor_api.http import problems
from executor_api.http.auth.access import CALLER
from executor_api.http.auth.ways import Way
from executor_api.http.body import LingeringResponse

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
"""Probes carry no key, and the document describes the program, not this installation."""
_ANYBODY = Caller(DEFAULT_TENANT, "anybody", way="open")


class BearerDoor:
    """Lets in who shows ``Authorization: Bearer`` that one of the ways knows. ``refused`` is told of all others."""

    def __init__(self, app: ASGIApp, ways: Sequence[Way], refused: Callable[[], None]) -> None:
        self._app = app
        self._ways = ways
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its caller, or answer 401, or 503 if nobody can tell now."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        try:
            caller = await self._caller(_credentials(Headers(scope=scope)))
        except UnavailableError as error:
            problem = problems.of_error(error)
            problem.unread = True
            await problems.respond(Request(scope), problem, LingeringResponse)(scope, receive, send)
            return
        if caller is not None:
            scope[CALLER] = caller
            await self._app(scope, receive, send)
            return
        self._refused()
        problem = problems.ProblemError(
            problems.UNAUTHORIZED,
            "send a key or token of this service as `Authorization: Bearer KEY`",
            headers={"WWW-Authenticate": "Bearer"},
            unread=True,
        )
        await problems.respond(Request(scope), problem, LingeringResponse)(scope, receive, send)

    async def _caller(self, credentials: str) -> Caller | None:
        """By the first way that knows. Raises `UnavailableError` if none does and one could not tell."""
        trouble: UnavailableError | None = None
        for way in self._ways if credentials else ():
            try:
                caller = await way.caller(credentials)
            except UnavailableError as error:
                trouble = error
                continue
            if caller is not None:
                return caller
        if trouble is not None:
            raise trouble
        return None


class OpenDoor:
    """Where nobody is asked: lets everybody in; with ``here_only``, who names this machine as the host they want.

    Listening on loopback keeps other machines out, but not the pages of a browser on this one: a name of theirs can be
    made to resolve to 127.0.0.1 (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, here_only: bool) -> None:
        self._app = app
        self._here_only = here_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        host = Headers(scope=scope).get("host") if scope["type"] == "http" and self._here_only else None
        if host is None or is_loopback(_name(host)):
            scope[CALLER] = _ANYBODY
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


def _credentials(headers: Headers) -> str:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else ""


def _name(host: str) -> str:
    """Without the port, and without the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
