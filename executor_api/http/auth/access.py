"""Who sent a request, and whether it may do what it asks for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from executor_api.domain.caller import Caller, Scope
from executor_api.http import problems

CALLER = "executor.caller"
"""Where the door leaves the caller in the ASGI scope."""

Endpoint = Callable[[Request], Awaitable[Response]]


def caller_of(request: Request) -> Caller:
    """Who sent it, as the door has found."""
    caller: Caller = request.scope[CALLER]
    return caller


def needing(scope: Scope, endpoint: Endpoint) -> Endpoint:
    """The endpoint, for those who have this scope only; others get 403."""

    async def guarded(request: Request) -> Response:
        caller = caller_of(request)
        if scope not in caller.scopes:
            has = ", ".join(sorted(caller.scopes)) or "none"
            raise problems.ProblemError(
                problems.FORBIDDEN, f"this needs the scope {scope}; {caller.name!r} has {has}", unread=True
            )
        return await endpoint(request)

    return guarded
