"""Tells the audit log of requests that were refused: for want of leave, or for coming too often."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from executor_api.http import problems
from executor_api.http.auth.access import CALLER
from executor_api.service.audit import Audit, Refusal

_REFUSALS = (problems.UNAUTHORIZED, problems.FORBIDDEN, problems.SATURATED, problems.RATE_LIMITED)


class RefusalWatch:
    """ASGI middleware around all that refuses."""

    def __init__(self, app: ASGIApp, audit: Audit) -> None:
        self._app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, then look at what became of it."""
        await self._app(scope, receive, send)
        kind: problems.Kind | None = scope.get(problems.ANSWERED)
        if kind in _REFUSALS:
            refusal = Refusal(
                status=kind.status,
                problem=kind.slug,
                method=scope["method"],
                path=scope["path"],
                address=address_of(scope),
                caller=scope.get(CALLER),
            )
            self._audit.refused(refusal)


def address_of(scope: Scope) -> str:
    """The peer's address. What a proxy says of somebody behind it is anybody's word, and not asked."""
    client = scope.get("client")
    return client[0] if client else ""
