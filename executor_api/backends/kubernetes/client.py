"""A thin client of the API server: raw JSON in and out, bounded requests, retries that honour ``Retry-After``.

The official client's models are an order of magnitude slower and stall the event loop on lists; only its loaders of
configuration are used (`credentials`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_before_delay,
    wait_random,
    wait_random_exponential,
)

from executor_api.backends.kubernetes.credentials import Credentials
from executor_api.backends.kubernetes.errors import (
    MAX_MESSAGE,
    ApiError,
    BusyError,
    UnauthorizedError,
    UnreachableError,
    api_error,
    trimmed,
)
from executor_api.backends.kubernetes.metrics import UNREACHABLE, KubernetesMetrics, described

CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 10.0
"""How long one attempt of a request may take."""
PATIENCE_SECONDS = 8.0
"""No attempt begins later than that after the first, whatever wait the server asks for."""
READ_BUFFER = 2 * 1024 * 1024
"""aiohttp takes lines of twice this: one watch event is one line, and holds a whole object."""
TLS_CLOSING_SECONDS = 0.1
"""aiohttp gives back a cut TLS connection, the watch's, before it is closed, and tells nobody when it is."""
_JSON = "application/json"
_JSON_PATCH = "application/json-patch+json"
_BACKOFF = wait_random_exponential(multiplier=0.05, max=2.0)
_LONG_SECONDS = 30.0
_LONG_BACKOFF = wait_random(10.0, 30.0)
"""Between attempts of those who have been trying for so long: there may be many of them when it comes back."""
_FIRST_ERROR = 300  # a redirect is no answer of an API server either

Params = Mapping[str, str]


class ApiClient:
    """One connection pool to one API server. What opens it closes it: use it as an async context manager."""

    def __init__(self, credentials: Credentials, metrics: KubernetesMetrics) -> None:
        self._metrics = metrics
        self._credentials = credentials
        connector = aiohttp.TCPConnector(limit=0, ssl=credentials.ssl_context or True)
        # Proxies of the environment hold as for any client; a kubeconfig's own proxy goes first.
        self._session = aiohttp.ClientSession(connector=connector, read_bufsize=READ_BUFFER, trust_env=True)
        self.host = credentials.host
        self.in_cluster = credentials.in_cluster

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
        if self._credentials.ssl_context is not None:
            await asyncio.sleep(TLS_CLOSING_SECONDS)

    async def get(self, path: str, params: Params | None = None, patience: float = PATIENCE_SECONDS) -> Any:
        """Read an object or a list."""
        return await self._request("GET", path, params=params, patience=patience)

    async def create(
        self, path: str, body: Any, params: Params | None = None, patience: float = PATIENCE_SECONDS
    ) -> Any:
        """Create an object whose name the caller chose; tried again after doubt: `ConflictError` can mean success."""
        return await self._request("POST", path, params=params, body=body, patience=patience)

    async def patch(self, path: str, operations: Any, patience: float = PATIENCE_SECONDS) -> Any:
        """Apply a JSON patch; a ``test`` in it that fails is an `InvalidObjectError`."""
        return await self._request("PATCH", path, body=operations, patience=patience)

    async def delete(self, path: str, patience: float = PATIENCE_SECONDS) -> None:
        """Delete an object and, in the background, what it owns: the default would leave a Job's pod running."""
        await self._request("DELETE", path, body={"propagationPolicy": "Background"}, patience=patience)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own kind, it bounds phases apart
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make one attempt and leave the body to the caller. Raises `ApiError`; `UnreachableError` also in the body."""
        sent = {**(headers or {}), **(await self._credentials.headers())}
        verb, resource = described(method, path, params)
        began, code = time.monotonic(), UNREACHABLE
        try:
            async with self._session.request(
                method,
                self.host + path,
                params=params,
                headers=sent,
                data=data,
                timeout=timeout,
                proxy=self._credentials.proxy,
                server_hostname=self._credentials.server_name,
                allow_redirects=False,
            ) as response:
                code = str(response.status)
                self._metrics.api_request(verb, resource, code, time.monotonic() - began)
                if response.status >= _FIRST_ERROR:
                    raise api_error(response.status, await response.read(), response.headers.get("Retry-After"))
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if code is UNREACHABLE:
                self._metrics.api_request(verb, resource, code, time.monotonic() - began)
            raise UnreachableError(trimmed(f"{self.host}: {str(error) or type(error).__name__}")) from error

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Any = None,
        patience: float = PATIENCE_SECONDS,
    ) -> Any:
        data = None if body is None else orjson.dumps(body)
        kind = _JSON_PATCH if method == "PATCH" else _JSON
        headers = {"Accept": _JSON} if data is None else {"Accept": _JSON, "Content-Type": kind}
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS)
        retrying = AsyncRetrying(
            stop=stop_before_delay(patience), wait=_wait, retry=retry_if_exception(_is_transient), reraise=True
        )
        refreshed = False
        async for attempt in retrying:
            with attempt:
                try:
                    async with self.open(
                        method, path, params=params, headers=headers, data=data, timeout=timeout
                    ) as response:
                        return _object(await response.read(), self.host)
                except UnauthorizedError as error:
                    if refreshed:
                        raise
                    refreshed = True
                    await self._credentials.reload()
                    raise BusyError(error.status, error.reason, error.message) from error
        raise AssertionError  # tenacity returns or raises


def _object(body: bytes, host: str) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        text = trimmed(body[:MAX_MESSAGE].decode(errors="replace"))
        raise UnreachableError(f"{host}: what answers is no API server: {text}") from None


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, UnreachableError | BusyError)


def _wait(state: RetryCallState) -> float:
    error = state.outcome and state.outcome.exception()
    if isinstance(error, ApiError) and error.retry_after is not None:
        return error.retry_after
    return (_BACKOFF if (state.seconds_since_start or 0.0) < _LONG_SECONDS else _LONG_BACKOFF)(state)
