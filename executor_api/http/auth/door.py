"""The door, as ASGI middleware: asks who calls, or, where nobody is asked, lets in who is on this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Protocol

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from executor_api.domain.caller import DEFAULT_TENANT, Caller
from executor_api.errors import UnavailableError
from executor_api.http import problems
from executor_api.http.auth.access import CALLER
from executor_api.http.auth.ways import ExpiredError, Way
from executor_api.http.body import LingeringResponse
from executor_api.http.status_page import FILES

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json", *FILES})
"""Probes carry no key; the document and the status page are of the program, not of this installation."""
_DOTS_OF_A_JWT = 2
_ANYBODY = Caller(DEFAULT_TENANT, "anybody", way="open")


class DoorMetrics(Protocol):
    """Told of those who were not let in. ``method`` is one of a few words, whatever they sent."""

    def auth_failed(self, method: str) -> None:
        """One was refused."""

    def auth_expired(self, method: str) -> None:
        """It was refused for having come too late."""


class BearerDoor:
    """Lets in who shows ``Authorization: Bearer`` that one of the ways knows."""

    def __init__(self, app: ASGIApp, ways: Sequence[Way], metrics: DoorMetrics) -> None:
        self._app = app
        self._ways = ways
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its caller, or answer 401, or 503 if nobody can tell now."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        credentials = _credentials(Headers(scope=scope))
        try:
            caller = await self._caller(credentials)
        except (ExpiredError, UnavailableError) as error:
            problem = self._refusal(credentials, error)
        else:
            if caller is not None:
                scope[CALLER] = caller
                await self._app(scope, receive, send)
                return
            problem = self._refusal(credentials)
        await problems.respond(Request(scope), problem, LingeringResponse)(scope, receive, send)

    async def _caller(self, credentials: str) -> Caller | None:
        """By the first way that knows. If none does, raises what kept one of them from it."""
        trouble: ExpiredError | UnavailableError | None = None
        for way in self._ways if credentials else ():
            try:
                caller = await way.caller(credentials)
            except (ExpiredError, UnavailableError) as error:
                trouble = error
                continue
            if caller is not None:
                return caller
        if trouble is not None:
            raise trouble
        return None

    def _refusal(self, credentials: str, why: ExpiredError | UnavailableError | None = None) -> problems.ProblemError:
        if isinstance(why, UnavailableError):
            problem = problems.of_error(why)
            problem.unread = True
            return problem
        method = method_of(credentials)
        self._metrics.auth_failed(method)
        if why is not None:
            self._metrics.auth_expired(method)
        return problems.ProblemError(
            problems.UNAUTHORIZED,
            str(why or "this service wants an API key or token: send it as `Authorization: Bearer KEY`"),
            headers={"WWW-Authenticate": "Bearer"},
            unread=True,
        )


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


def method_of(credentials: str) -> str:
    """What somebody tried, for the counters: ``none``, ``jwt``, or, as anything else may be one, ``api_key``."""
    if not credentials:
        return "none"
    return "jwt" if credentials.startswith("ey") and credentials.count(".") == _DOTS_OF_A_JWT else "api_key"


def _credentials(headers: Headers) -> str:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else ""


def _name(host: str) -> str:
    """Without the port, and without the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
