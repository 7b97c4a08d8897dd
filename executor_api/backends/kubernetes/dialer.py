"""The way to runners: straight to the pod's IP, or through the API server's pod proxy.

`DispatchMode.AUTO` asks the first pod which way works, with a request that carries no token and no call: only a runner
answers it as a runner does, so a call can't reach a stranger who happens to have that address where we are.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import aiohttp

from executor_api.backends.kubernetes import names
from executor_api.backends.kubernetes.client import ApiClient
from executor_api.backends.kubernetes.errors import (
    BusyError,
    ConflictError,
    ForbiddenError,
    KubernetesError,
    MissingError,
    UnauthorizedError,
    UnreachableError,
    api_error,
    trimmed,
)
from executor_api.backends.kubernetes.metrics import KubernetesMetrics
from executor_api.backends.kubernetes.runner_http import CONNECT_SECONDS, Lines, NotConnectedError
from executor_api.backends.kubernetes.settings import DispatchMode
from executor_api.backends.kubernetes.snapshot import PodSnapshot
from executor_runner.protocol import CALL_PATH, POD_HEADER, PORT, TOKEN_HEADER

BRIEF_SECONDS = 3.0
"""How long a request may take whose answer does not wait for a call."""
SILENCE_SECONDS = 30.0
"""A runner sends a heartbeat every ten seconds."""
BOOT_SECONDS = 10.0
"""How long a running container may take until its runner listens."""
RECHECK_SECONDS = 600.0
"""When the proxy was the way that worked, how long until pod IPs are tried again."""
_FIRST_PAUSE, _LAST_PAUSE = 0.005, 0.1

_STREAM = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
_BRIEF = aiohttp.ClientTimeout(total=BRIEF_SECONDS, sock_connect=CONNECT_SECONDS)


class Way(StrEnum):
    """A way to a runner."""

    POD_IP = "pod IP"
    PROXY = "API server's proxy"


Body = AsyncIterator[bytes]
"""An answer's body, cut anywhere."""
_Attempt = AbstractAsyncContextManager[Body]
_NOT_CONNECTED = NotConnectedError | aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError
_FORCED = {DispatchMode.POD_IP: Way.POD_IP, DispatchMode.PROXY: Way.PROXY}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerRequest:
    """One request to a runner. ``streams``: its answer lasts as long as a call. ``pod``: UID of its only taker.

    ``sending`` is called just before it is written: until then it is certain that it has not arrived.
    """

    method: str
    path: str
    token: str = field(default="", repr=False)
    params: dict[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    streams: bool = False
    pod: str = ""
    sending: Callable[[], None] = field(default=lambda: None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the request."""
        fields = {TOKEN_HEADER: self.token, POD_HEADER: self.pod}
        return {name: value for name, value in fields.items() if value}

    def encoded(self, host: str) -> bytes:
        """As HTTP/1.1. Behind a call, the next one may follow; the runner closes the connection if none may."""
        query = f"?{urlencode(self.params)}" if self.params else ""
        fields = {
            "Host": host,
            "Connection": "keep-alive" if self.streams else "close",
            "Content-Length": len(self.body),
            **self.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"{self.method} {self.path}{query} HTTP/1.1\r\n{lines}\r\n".encode() + self.body


class Dialer:
    """Opens requests to runners. What opens it closes it: use it as an async context manager."""

    def __init__(self, client: ApiClient, namespace: str, mode: DispatchMode, metrics: KubernetesMetrics) -> None:
        self._client = client
        self._metrics = metrics
        self._namespace = namespace
        self._forced = _FORCED.get(mode)
        self._found: Way | None = None
        self._found_at = 0.0
        self._lines = Lines(PORT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()

    @property
    def way(self) -> Way | None:
        """The way in use; None before the first pod was asked."""
        return self._forced or self._found

    def approach(self, pod: PodSnapshot) -> None:
        """Begin to connect to a runner that is about to get a request, where that is known to be the way."""
        if self.way is Way.POD_IP and pod.ip is not None:
            self._lines.approach(pod.ip)

    @asynccontextmanager
    async def open(
        self, pod: PodSnapshot, request: RunnerRequest, booting: Callable[[], bool] = lambda: False
    ) -> AsyncIterator[Body]:
        """Open a request. As long as ``booting`` says so, a refused connection, which has carried nothing, is retried.

        Raises `KubernetesError`; anything but a refused connection may have reached the runner.
        """
        async with AsyncExitStack() as stack:
            way = await self._choose(pod)
            try:
                body = await _insist(stack, lambda: self._once(way, pod, request), booting)
            except KubernetesError as error:
                self._learn(way, error)
                raise
            self._learn(way, None)
            self._metrics.runner_answered(way)
            yield body

    def _learn(self, way: Way, error: KubernetesError | None) -> None:
        """Remember a way that led to a runner, forget one that led nowhere."""
        if error is None or is_runners(error):
            if self._found is not way:
                self._found, self._found_at = way, time.monotonic()
        elif isinstance(error, UnreachableError | ForbiddenError) and not _is_refusal(error):
            self._found = None

    async def _choose(self, pod: PodSnapshot) -> Way:
        if self._forced is not None:
            return self._forced
        old = self._found is Way.PROXY and time.monotonic() - self._found_at > RECHECK_SECONDS
        if self._found is None or old:
            self._found_at = time.monotonic()  # others that find it old go on as before
            self._found = await self._probe(pod) or self._found
        return self._found or Way.PROXY

    async def _probe(self, pod: PodSnapshot) -> Way | None:
        """The way that this pod shows to work; None if it only shows that its runner does not listen."""
        deadline = time.monotonic() + CONNECT_SECONDS
        question = RunnerRequest(method="GET", path=CALL_PATH)
        try:
            async with AsyncExitStack() as stack:
                await _insist(stack, lambda: self._to_pod(pod, question), lambda: time.monotonic() < deadline)
        except KubernetesError as error:
            if _is_refusal(error):
                return None
            return Way.POD_IP if is_runners(error) else Way.PROXY
        return Way.PROXY

    def _once(self, way: Way, pod: PodSnapshot, request: RunnerRequest) -> _Attempt:
        return self._to_pod(pod, request) if way is Way.POD_IP else self._through_proxy(pod, request)

    @asynccontextmanager
    async def _through_proxy(self, pod: PodSnapshot, request: RunnerRequest) -> AsyncIterator[Body]:
        path = f"{names.pods_path(self._namespace)}/{pod.name}:{PORT}/proxy{request.path}"
        request.sending()
        async with self._client.open(
            request.method,
            path,
            params=request.params,
            headers=request.headers,
            data=request.body or None,
            timeout=_STREAM if request.streams else _BRIEF,
        ) as response:
            yield response.content.iter_any()

    @asynccontextmanager
    async def _to_pod(self, pod: PodSnapshot, request: RunnerRequest) -> AsyncIterator[Body]:
        ip = pod.ip or ""
        host = f"[{ip}]" if ":" in ip else ip
        try:
            async with (
                asyncio.timeout(None if request.streams else BRIEF_SECONDS),
                self._lines.exchange(ip, request.encoded(f"{host}:{PORT}"), SILENCE_SECONDS, request.sending) as line,
            ):
                if line.status >= HTTPStatus.BAD_REQUEST:
                    raise api_error(line.status, b"".join([data async for data in line.body()]))
                yield line.body()
        except OSError as error:
            raise UnreachableError(trimmed(f"runner at {host}: {str(error) or type(error).__name__}")) from error


async def _insist(stack: AsyncExitStack, attempt: Callable[[], _Attempt], booting: Callable[[], bool]) -> Body:
    pause = _FIRST_PAUSE
    while True:
        try:
            return await stack.enter_async_context(attempt())
        except KubernetesError as error:
            if not _is_refusal(error) or not booting():
                raise
        await asyncio.sleep(pause)
        pause = min(pause * 1.3, _LAST_PAUSE)


def is_runners(error: KubernetesError) -> bool:
    """Whether a runner refused, and not the API server in between, whose refusals are Status objects with a reason."""
    return isinstance(error, UnauthorizedError | ConflictError) and not error.reason


def was_not_sent(error: KubernetesError) -> bool:
    """Whether no connection to a runner came about, so that nothing of the request can have reached one."""
    if isinstance(error, MissingError):
        return bool(error.reason)  # the API server's: there is no such pod
    return _is_refusal(error) or isinstance(error.__cause__, _NOT_CONNECTED)


def _is_refusal(error: KubernetesError) -> bool:
    """Nobody listened, so nothing was sent."""
    if isinstance(error, BusyError):
        return "connection refused" in error.message
    cause = error.__cause__
    if isinstance(cause, aiohttp.ClientConnectorError):
        return cause.os_error.errno == errno.ECONNREFUSED
    return isinstance(cause, NotConnectedError) and cause.refused
