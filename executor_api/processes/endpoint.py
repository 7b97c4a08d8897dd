"""Where Prometheus scrapes a monitor: ``/metrics`` and ``/healthz``, by the standard library, in little memory."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from executor_api.errors import ConfigurationError
from executor_api.processes.exporter import ProcessMetrics
from executor_api.processes.monitor import Monitor

_log = structlog.get_logger(__name__)

_THREADS = 4
"""Started at once: a machine that has run out of pids is still to be told of."""
_PATIENCE_SECONDS = 5.0
"""How long a connection may be silent."""
_PAUSE_SECONDS = 0.1


class Endpoint(TCPServer):
    """Takes connections from the start, and answers once `serve_in_background` was called. ``others``: more metrics.

    Raises `ConfigurationError` if it can't listen there.
    """

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: str, port: int, monitor: Monitor, *others: Collector) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        for collector in (ProcessMetrics(lambda: monitor.watched), *others):
            registry.register(collector)
        try:
            self.address_family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
            super().__init__((address, port), partial(_Answer, registry, monitor))
        except (OSError, OverflowError) as error:
            raise ConfigurationError(
                f"can't listen on {address}, port {port}: {error}; choose others with --address and --port"
            ) from None

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def serve_in_background(self) -> None:
        """Answer until the process ends."""
        for _ in range(_THREADS):
            threading.Thread(target=self._answer_one_by_one, name="endpoint", daemon=True).start()

    def _answer_one_by_one(self) -> None:
        while True:
            try:
                request, client = self.get_request()
            except OSError:
                time.sleep(_PAUSE_SECONDS)  # the machine may have no descriptor just now
                continue
            try:
                self.process_request(request, client)
            except OSError:
                continue  # the client has gone
            except Exception as error:  # noqa: BLE001 - one request must not end the thread, which nothing replaces
                _log.error("a request could not be answered", exc_info=error)


class _Answer(BaseHTTPRequestHandler):
    timeout = _PATIENCE_SECONDS

    def __init__(self, registry: CollectorRegistry, monitor: Monitor, *args: Any) -> None:
        self._registry = registry
        self._monitor = monitor
        super().__init__(*args)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, kind = _encoder(self.headers.get("Accept", ""))
            self._send(HTTPStatus.OK, encode(self._registry), kind)
        elif path == "/healthz":
            self._send_health()
        else:
            self._send(HTTPStatus.NOT_FOUND, b"There is /metrics, and /healthz.\n")

    def log_message(self, *_args: Any) -> None:
        pass

    def _send_health(self) -> None:
        late = self._monitor.overdue
        if late:
            text = f"no look at the processes has ended in time; it is {late:.0f} s late\n"
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, text.encode())
        else:
            self._send(HTTPStatus.OK, b"ok\n")

    def _send(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    """What the client takes; plain text for one that says it in a way that can't be read."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):
        return choose_encoder("")
