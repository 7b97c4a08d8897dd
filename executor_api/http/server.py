"""The server on its socket: uvicorn, drained when it stops, its files read anew on SIGHUP."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from math import ceil

import structlog
import uvicorn
from starlette.applications import Starlette

from executor_api.errors import ConfigurationError
from executor_api.http import application
from executor_api.http.crowd import most_connections
from executor_api.http.metrics import Metrics
from executor_api.http.protocol import protocol
from executor_api.http.routes import Api
from executor_api.settings import Settings

_log = structlog.get_logger(__name__)

_CLOSING_SECONDS = 2.0
"""How long connections may stay open after the grace: for the last answers."""
_KEEP_ALIVE_SECONDS = 75
_BACKLOG = 2048
_MOST_BESIDE = 64
"""Connections of those who scrape and probe on a port of their own."""


class Server(uvicorn.Server):
    """Drains when told to stop: no new connections, calls that run may end and be answered within the grace.

    Before that it serves on for ``drain_seconds``, each answer the last on its connection.
    SIGHUP has files read anew, by ``reload`` and by the ways to tell callers.
    """

    def __init__(self, api: Api, metrics: Metrics, reload: Callable[[], None]) -> None:
        grace = api.settings.shutdown_seconds + _CLOSING_SECONDS
        most = most_connections(api.settings.max_concurrency)
        super().__init__(_config(application.build(api, metrics, most), api.settings, grace, most))
        self._api = api
        self._reload_files = reload

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, let answers go out, then let calls end that nobody waits for; one grace for both."""
        await self._say_farewell()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._api.settings.shutdown_seconds
        timer = loop.call_at(deadline, self._api.waiting.close)
        await super().shutdown(sockets)
        timer.cancel()
        await self._api.service.stop(max(0.0, deadline - loop.time()))

    async def _say_farewell(self) -> None:
        """Serve on and end each connection by its next answer.

        Whoever chooses among services hears after a moment only that this one goes. And over a connection that its
        client means to keep, a call may be on its way when it is closed.
        """
        _log.info("draining", seconds=self._api.settings.drain_seconds)
        self.server_state.default_headers.append((b"connection", b"close"))
        loop = asyncio.get_running_loop()
        end = loop.time() + self._api.settings.drain_seconds
        while loop.time() < end and not self.force_exit:  # noqa: ASYNC110 - uvicorn's flag, which wakes nobody
            await asyncio.sleep(0.1)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, without sending the signal again at the end: a drained service has ended well."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _reload(self) -> None:
        self._reload_files()
        self._reloading = asyncio.gather(*(way.reload() for way in self._api.ways))


class _Beside(uvicorn.Server):
    """Is told to stop by whoever started it, and by no signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them to others."""
        yield


@contextlib.asynccontextmanager
async def operations_on(sockets: list[socket.socket], api: Api, metrics: Metrics) -> AsyncIterator[None]:
    """While this lasts, serve metrics and probes alone on these sockets, and to everybody."""
    app = application.build_operations(api, metrics)
    server = _Beside(_config(app, api.settings, _CLOSING_SECONDS, _MOST_BESIDE))
    serving = asyncio.create_task(server.serve(sockets=sockets)) if sockets else None
    try:
        yield
    finally:
        server.should_exit = True
        if serving is not None:
            await serving


def _config(app: Starlette, settings: Settings, grace: float, most: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol(settings.body_timeout_seconds, most),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nothing here asks where a request came from
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=ceil(grace),
    )


def listen(host: str, port: int, flag: str = "--port") -> socket.socket:
    """A socket that takes connections from now on. Raises `ConfigurationError`."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"can't listen on {host}, port {port}: {error}; choose others with --host and {flag}"
        ) from None


def url_of(sock: socket.socket) -> str:
    """Where it listens."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
