"""No tenant has all connections: requests that wait, and streams, stay for as long as their clients like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from executor_api.http import problems
from executor_api.http.auth.access import CALLER
from executor_api.http.body import LingeringResponse


class TenantShare:
    """ASGI middleware behind the door: a tenant has ``most`` requests in progress at once; more get 429.

    ``refused`` is told of those.
    """

    def __init__(self, app: ASGIApp, most: int, refused: Callable[[], None]) -> None:
        self._app = app
        self._most = most
        self._refused = refused
        self._in_progress: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, if its tenant has not too many."""
        if CALLER not in scope:
            await self._app(scope, receive, send)
            return
        tenant = scope[CALLER].tenant
        if self._in_progress[tenant] >= self._most:
            self._refused()
            detail = f"this tenant has {self._most} requests in progress, as many as one may"
            problem = problems.ProblemError(problems.SATURATED, detail, headers={"Retry-After": "1"}, unread=True)
            await problems.respond(Request(scope), problem, LingeringResponse)(scope, receive, send)
            return
        self._in_progress[tenant] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_progress[tenant] -= 1
            if not self._in_progress[tenant]:
                del self._in_progress[tenant]
