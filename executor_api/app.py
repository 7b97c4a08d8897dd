"""Composition root: the only place that names concrete backends, stores and the server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

import structlog
import uvicorn

from executor_api import entrance
from executor_api.backends.base import Backend
from executor_api.domain.finding import Finding, fail, ok, warn
from executor_api.domain.template import Template
from executor_api.errors import ConfigurationError
from executor_api.http.auth.door import is_loopback
from executor_api.http.cluster_metrics import ClusterMetrics
from executor_api.http.metrics import Metrics
from executor_api.http.routes import Api
from executor_api.http.server import Server, listen, operations_on, url_of
from executor_api.master_key import master_key, owner_id
from executor_api.processes.monitor import Monitor
from executor_api.processes.scope import Tree
from executor_api.service.execution_service import ExecutionService, Limits
from executor_api.service.metrics import NoMetrics
from executor_api.service.operator_files import OperatorFiles
from executor_api.service.sqlite_store import SqliteStore
from executor_api.service.store import Store
from executor_api.service.template_file import TemplateFile
from executor_api.service.tenant_file import TenantFile
from executor_api.service.tracing import ClosableTracing
from executor_api.settings import Settings
from executor_api.telemetry import audit_log

_log = structlog.get_logger(__name__)

_PROCESSES_INTERVAL = 15.0
"""Seconds between looks at our own processes and those of calls on this machine."""


def build_service(settings: Settings, environ: Mapping[str, str], metrics: Metrics | None = None) -> ExecutionService:
    """A service as the settings say, not started yet. Raises `ConfigurationError`."""
    templates, tenants = _files(settings).read()
    return ExecutionService(
        _backend(settings, environ, metrics or Metrics()),
        _store(settings, environ),
        templates,
        Limits(
            max_concurrency=settings.max_concurrency,
            max_queue=settings.max_queue,
            keep_seconds=settings.keep_seconds,
            keep_bytes=settings.keep_bytes,
            tenants=tenants,
        ),
        metrics=metrics or NoMetrics(),
    )


def serve(settings: Settings, environ: Mapping[str, str], listening: Callable[[str], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM, then drain. ``listening`` is told the URL once connections are taken.

    Raises `ConfigurationError` for what the operator has to change.
    """
    check_exposure(settings)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(listen(settings.host, settings.port))]
        if settings.metrics_port:
            sockets.append(stack.enter_context(listen(settings.host, settings.metrics_port, "--metrics-port")))
        config = uvicorn.Config(app="", log_config=None)
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_serve(settings, environ, sockets, listening))


async def diagnose(settings: Settings, environ: Mapping[str, str], tell: Callable[[Finding], None]) -> None:
    """Look at everything that calls will need; ``tell`` gets each finding at once."""
    templates = _files(settings).examine(tell)
    await entrance.examine(settings, environ, tell)
    if settings.tracing:
        tell(await _examine_tracing(environ))
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
            "set an API key (EXECUTOR_API_KEY) or a file of keys (EXECUTOR_API_KEYS), or listen on 127.0.0.1, "
            "or say that you want it so (--no-auth)"
        )


async def _serve(
    settings: Settings,
    environ: Mapping[str, str],
    sockets: Sequence[socket.socket],
    listening: Callable[[str], None] | None,
) -> None:
    """On the first socket; on the second, if there is one, metrics and probes, until the last call has ended."""
    sock, *beside = sockets
    metrics, ways = Metrics(), entrance.ways_to_tell(settings, environ)
    tracing = _tracing(environ) if settings.tracing else None
    service = build_service(settings, environ, metrics)
    service.audit.write = audit_log()
    if tracing is not None:
        service.trace(tracing)
    await service.start()
    processes = Monitor(Tree(os.getpid()), _PROCESSES_INTERVAL)
    metrics.watch(lambda: processes.watched)
    processes.start()
    try:
        api = Api(service, settings, ways)
        server = Server(api, metrics, lambda: _files(settings).reload(service))
        url = url_of(sock)
        health = service.health()
        _log.info("listening", url=url, backend=settings.backend, ready=health.ready, notes=health.notes)
        for problem in health.problems:
            _log.warning("not ready", problem=problem)
        if listening is not None:
            listening(url)
        for extra in beside:
            _log.info("serving metrics and probes", url=url_of(extra))
        async with operations_on(beside, api, metrics):
            await server.serve(sockets=[sock])
    finally:
        processes.stop()
        await service.stop(0)
        for way in ways:
            await way.close()
        if tracing is not None:
            await tracing.close()


def _files(settings: Settings) -> OperatorFiles:
    return OperatorFiles(TemplateFile(settings.templates, settings.pool), TenantFile(settings.tenants))


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


def _tracing(environ: Mapping[str, str]) -> ClosableTracing:
    try:
        from executor_api.service.otel import OpenTelemetry  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(
            f"--tracing needs a package that is not here ({error.name}); "
            "install it with: pip install 'executor-api[tracing]'"
        ) from None
    return OpenTelemetry(environ)


async def _examine_tracing(environ: Mapping[str, str]) -> Finding:
    check = "traces"
    try:
        tracing = _tracing(environ)
    except ConfigurationError as error:
        return fail(check, str(error))
    try:
        reached = await tracing.reaches_collector()
    finally:
        await tracing.close()
    if reached:
        return ok(check, "the collector takes them")
    return warn(check, "no collector takes them: is it there, and OTEL_EXPORTER_OTLP_ENDPOINT its URL?")


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
            owner_lease=settings.owner_lease,
            require_network_policy=settings.require_network_policy,
            port=settings.port,
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
        owner_lease=settings.owner_lease,
        dispatch=DispatchMode(settings.dispatch),
        require_network_policy=settings.require_network_policy,
        port=settings.port,
    )
    await examine(found, environ, templates.values(), tell)


def _missing_package(error: ImportError) -> ConfigurationError:
    return ConfigurationError(
        f"the kubernetes backend needs a package that is not here ({error.name}); "
        "install it with: pip install 'executor-api[kubernetes]'"
    )
