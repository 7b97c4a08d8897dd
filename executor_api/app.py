"""Composition root: the only place that names concrete backends, stores and the server."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from math import ceil
from types import ModuleType

import structlog
import uvicorn
from starlette.applications import Starlette

from executor_api.backends.base import Backend
from executor_api.domain.finding import Finding, fail, ok
from executor_api.domain.template import Template
from executor_api.errors import ConfigurationError
from executor_api.http import application
from executor_api.http.auth.door import is_loopback
from executor_api.http.auth.ways import SingleKey, Way
from executor_api.http.cluster_metrics import ClusterMetrics
from executor_api.http.metrics import Metrics
from executor_api.http.protocol import protocol
from executor_api.http.routes import Api
from executor_api.master_key import master_key, owner_id
from executor_api.service.execution_service import ExecutionService, Limits
from executor_api.service.metrics import NoMetrics
from executor_api.service.sqlite_store import SqliteStore
from executor_api.service.store import Store
from executor_api.service.template_file import TemplateFile
from executor_api.settings import Settings

_CLOSING_SECONDS = 2.0
"""How long connections may stay open after the grace: for the last answers."""
_KEEP_ALIVE_SECONDS = 75
_BACKLOG = 2048

_log = structlog.get_logger(__name__)


def create_app(service: ExecutionService, settings: Settings, metrics: Metrics | None = None) -> Starlette:
    """The HTTP application around a service, which whoever made it starts and stops."""
    return application.build(Api(service, settings, ways_to_tell(settings)), metrics or Metrics())


def ways_to_tell(settings: Settings) -> list[Way]:
    """The ways to tell callers that the settings open; none if they ask for none."""
    return [SingleKey(settings.api_key)] if settings.api_key else []


def build_service(settings: Settings, environ: Mapping[str, str], metrics: Metrics | None = None) -> ExecutionService:
    """A service as the settings say, not started yet. Raises `ConfigurationError`."""
    return ExecutionService(
        _backend(settings, environ, metrics or Metrics()),
        _store(settings, environ),
        TemplateFile(settings.templates, settings.pool).reload(),
        Limits(
            max_concurrency=settings.max_concurrency,
            max_queue=settings.max_queue,
            keep_seconds=settings.keep_seconds,
            keep_bytes=settings.keep_bytes,
        ),
        metrics=metrics or NoMetrics(),
    )


def serve(settings: Settings, environ: Mapping[str, str], listening: Callable[[str], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM, then drain. ``listening`` is told the URL once connections are taken.

    Raises `ConfigurationError` for what the operator has to change.
    """
    check_exposure(settings)
    with _listen(settings.host, settings.port) as sock:
        config = uvicorn.Config(app="", log_config=None)
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_serve(settings, environ, sock, listening))


async def diagnose(settings: Settings, environ: Mapping[str, str], tell: Callable[[Finding], None]) -> None:
    """Look at everything that calls will need; ``tell`` gets each finding at once."""
    templates = TemplateFile("", settings.pool).reload()
    try:
        templates = TemplateFile(settings.templates, settings.pool).reload()
        tell(ok("templates", ", ".join(templates)))
    except ConfigurationError as error:
        tell(fail("templates", str(error)))
    if settings.backend == "kubernetes":
        await _diagnose_kubernetes(settings, environ, templates, tell)
        return
    from executor_api.backends.local.doctor import examine  # noqa: PLC0415

    await examine(environ, templates, tell)


def check_exposure(settings: Settings) -> None:
    """Raise `ConfigurationError` if others than this machine could run code here, and nobody said that they may."""
    if not is_loopback(settings.host) and not settings.no_auth and not settings.asks_callers:
        raise ConfigurationError(
            f"listening on {settings.host} lets everybody who can reach it run code here; "
            "set an API key (EXECUTOR_API_KEY), or listen on 127.0.0.1, or say that you want it so (--no-auth)"
        )


async def _serve(
    settings: Settings, environ: Mapping[str, str], sock: socket.socket, listening: Callable[[str], None] | None
) -> None:
    metrics, ways = Metrics(), ways_to_tell(settings)
    service = build_service(settings, environ, metrics)
    await service.start()
    try:
        server = _Server(Api(service, settings, ways), metrics)
        url = _url(sock)
        health = service.health()
        _log.info("listening", url=url, backend=settings.backend, ready=health.ready, notes=health.notes)
        for problem in health.problems:
            _log.warning("not ready", problem=problem)
        if listening is not None:
            listening(url)
        await server.serve(sockets=[sock])
    finally:
        await service.stop(0)
        for way in ways:
            await way.close()


class _Server(uvicorn.Server):
    """Drains when told to stop: no new connections, calls that run may end and be answered within the grace.

    SIGHUP reads the files of the settings anew; with a mistake in one, what it said before stays.
    """

    def __init__(self, api: Api, metrics: Metrics) -> None:
        super().__init__(
            uvicorn.Config(
                application.build(api, metrics),
                http=protocol(api.settings.body_timeout_seconds),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # nothing here asks where a request came from
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=ceil(api.settings.shutdown_seconds + _CLOSING_SECONDS),
            )
        )
        self._api = api
        self._templates = TemplateFile(api.settings.templates, api.settings.pool)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, let answers go out, then let calls end that nobody waits for; one grace for both."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._api.settings.shutdown_seconds
        timer = loop.call_at(deadline, self._api.waiting.close)
        await super().shutdown(sockets)
        timer.cancel()
        await self._api.service.stop(max(0.0, deadline - loop.time()))

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
        self._reload_templates()
        self._reloading = asyncio.gather(*(way.reload() for way in self._api.ways))

    def _reload_templates(self) -> None:
        try:
            templates = self._templates.reload()
            self._api.service.replace_templates(templates)
        except ConfigurationError as error:
            _log.error("templates not reloaded, those in use stay", problem=str(error))
            return
        _log.info("templates reloaded", templates=sorted(templates))


def _store(settings: Settings, environ: Mapping[str, str]) -> Store:
    """PostgreSQL where a URL is given, else a file of this process alone. Raises `ConfigurationError`."""
    if not settings.store_url:
        return SqliteStore(settings.data_path(environ) / "executions.sqlite3")
    _postgres().check(settings.store_url)
    from executor_api.service.postgres.store import PostgresStore  # noqa: PLC0415 - an extra

    return PostgresStore(settings.store_url, f"{socket.gethostname()}-{secrets.token_hex(4)}")


def _postgres() -> ModuleType:
    try:
        from executor_api.service.postgres import schema  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(
            f"a PostgreSQL store needs a package that is not here ({error.name}); "
            "install it with: pip install 'executor-api[postgres]'"
        ) from None
    return schema


def _owner(settings: Settings, environ: Mapping[str, str]) -> str:
    """Who owns the sandboxes: whoever shares their records. Raises `ConfigurationError`."""
    if not settings.store_url:
        return owner_id(settings.data_path(environ))
    return str(_postgres().prepare(settings.store_url))


def _key(settings: Settings, environ: Mapping[str, str]) -> bytes:
    if settings.store_url and not settings.master_key:
        raise ConfigurationError(
            "replicas that share a database must share the secret of their sandboxes: set EXECUTOR_MASTER_KEY, "
            "the same for each"
        )
    return master_key(settings.master_key, settings.data_path(environ))


def _backend(settings: Settings, environ: Mapping[str, str], metrics: Metrics) -> Backend:
    """The backend of the settings; only the one in use is loaded."""
    if settings.backend == "kubernetes":
        return _kubernetes(settings, environ, metrics)
    from executor_api.backends.local.backend import LocalBackend  # noqa: PLC0415

    return LocalBackend(environ)


def _kubernetes(settings: Settings, environ: Mapping[str, str], metrics: Metrics) -> Backend:
    try:
        from executor_api.backends.kubernetes.backend import KubernetesBackend  # noqa: PLC0415
        from executor_api.backends.kubernetes.settings import DispatchMode, KubernetesSettings  # noqa: PLC0415
    except ImportError as error:
        raise _missing_package(error) from None
    return KubernetesBackend(
        KubernetesSettings(
            master_key=_key(settings, environ),
            owner=_owner(settings, environ),
            namespace=settings.namespace,
            image=settings.image,
            kubeconfig=settings.kubeconfig,
            context=settings.context,
            dispatch=DispatchMode(settings.dispatch),
            max_cold_starts=settings.max_cold_starts,
        ),
        environ,
        metrics=ClusterMetrics(metrics.registry),
    )


async def _diagnose_kubernetes(
    settings: Settings, environ: Mapping[str, str], templates: Mapping[str, Template], tell: Callable[[Finding], None]
) -> None:
    try:
        from executor_api.backends.kubernetes.doctor import examine  # noqa: PLC0415
        from executor_api.backends.kubernetes.settings import DispatchMode, KubernetesSettings  # noqa: PLC0415
    except ImportError as error:
        raise _missing_package(error) from None
    found = KubernetesSettings(
        master_key=secrets.token_bytes(32),
        namespace=settings.namespace,
        image=settings.image,
        kubeconfig=settings.kubeconfig,
        context=settings.context,
        dispatch=DispatchMode(settings.dispatch),
    )
    await examine(found, environ, templates.values(), tell)


def _missing_package(error: ImportError) -> ConfigurationError:
    return ConfigurationError(
        f"the kubernetes backend needs a package that is not here ({error.name}); "
        "install it with: pip install 'executor-api[kubernetes]'"
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"can't listen on {host}, port {port}: {error}; choose others with --host and --port (0 takes a free one)"
        ) from None


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
