"""Asking the API server whose token somebody has shown (TokenReview)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import structlog

from executor_api.backends.kubernetes.checks import Right, connection_problem, missing_rights
from executor_api.backends.kubernetes.client import ApiClient
from executor_api.backends.kubernetes.credentials import load
from executor_api.backends.kubernetes.errors import ForbiddenError, KubernetesError
from executor_api.backends.kubernetes.metrics import NoMetrics
from executor_api.domain.finding import Finding, fail, ok
from executor_api.errors import ConfigurationError, UnavailableError

REVIEW_SECONDS = 5.0
"""A caller waits for it."""
_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
_RIGHT = Right("authentication.k8s.io", "tokenreviews", "create")
_PATIENCE_SECONDS = 2.0
_MENDING = (
    f"the service may not {_RIGHT}, which --token-review-audience needs; bind a ClusterRole with that verb "
    "to its service account (system:auth-delegator has it)"
)
_CHECK = "token review"

_log = structlog.get_logger(__name__)


class TokenReviewer:
    """Asks with the service's own credentials, which it looks for when the first token comes."""

    def __init__(
        self,
        audience: str,
        kubeconfig: str,
        context: str,
        environ: Mapping[str, str],
        patience: float = REVIEW_SECONDS,
    ) -> None:
        self.trouble = ""
        """Why the last review did not come about."""
        self._audience = audience
        self._patience = patience
        self._where = (kubeconfig, context, environ)
        self._opened = AsyncExitStack()
        self._client: ApiClient | None = None
        self._opening = asyncio.Lock()

    async def review(self, token: str) -> str | None:
        """The name of the user whose token it is; None if it is not good for the audience.

        Raises `UnavailableError` if the API server does not say.
        """
        spec = {"token": token, "audiences": [self._audience]}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        try:
            async with asyncio.timeout(self._patience):
                client = await self._connected()
                answer = await client.create(_PATH, body, patience=_PATIENCE_SECONDS)
        except (KubernetesError, ConfigurationError, TimeoutError) as error:
            self._failed(error)
            raise UnavailableError("tokens of service accounts can't be reviewed now") from error
        self.trouble = ""
        return user_of(answer.get("status") or {}, self._audience)

    async def close(self) -> None:
        """Close the connections."""
        await self._opened.aclose()

    async def _connected(self) -> ApiClient:
        async with self._opening:
            if self._client is None:
                self._client = await self._opened.enter_async_context(ApiClient(await load(*self._where), NoMetrics()))
            return self._client

    def _failed(self, error: Exception) -> None:
        """Log it once, not for everybody who calls meanwhile."""
        forbidden = isinstance(error, ForbiddenError)
        trouble = _MENDING if forbidden else f"the API server can't be asked about tokens ({str(error) or 'no answer'})"
        if trouble != self.trouble:
            _log.warning("no token review", problem=trouble)
        self.trouble = trouble


def user_of(status: Mapping[str, Any], audience: str) -> str | None:
    """Whom a review's status names, if the API server has looked at the audience: old ones would not say so."""
    if status.get("authenticated") is not True or audience not in (status.get("audiences") or ()):
        return None
    name = (status.get("user") or {}).get("username")
    return name if isinstance(name, str) else None


async def examine(kubeconfig: str, context: str, environ: Mapping[str, str]) -> Finding:
    """Whether the service may ask, for `executor-api doctor`."""
    try:
        credentials = await load(kubeconfig, context, environ)
    except ConfigurationError as error:
        return fail(_CHECK, str(error))
    async with ApiClient(credentials, NoMetrics()) as client:
        try:
            missing = await missing_rights(client, "", [_RIGHT])
        except KubernetesError as error:
            return fail(_CHECK, connection_problem(client.host, credentials.source, error))
        except ConfigurationError as error:
            return fail(_CHECK, str(error))
    return fail(_CHECK, _MENDING) if missing else ok(_CHECK, "the service may ask whose token it is shown")
