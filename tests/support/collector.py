"""A collector of traces: a real HTTP server that takes OTLP and keeps the spans."""

from __future__ import annotations

import contextlib
import gzip
import os
import threading
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status as SentStatus

from executor_api.service.otel import OpenTelemetry


@dataclass(frozen=True)
class Seen:
    """A span as it came: ids in hexadecimal, times in seconds since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str
    state: str
    name: str
    kind: str
    start: float
    end: float
    failed: bool
    attributes: dict[str, Any]
    events: tuple[str, ...]
    resource: dict[str, Any]


class Collector:
    """On a free port of this machine. While ``silent``, it reads requests and answers none. A context manager."""

    def __init__(self) -> None:
        self.silent = False
        self._spans: list[Seen] = []
        self._news = threading.Condition()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """For ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, body: bytes) -> None:
        """Keep what a request brought."""
        if self.silent:
            self._closing.wait()
            return
        request = ExportTraceServiceRequest.FromString(body)
        with self._news:
            for group in request.resource_spans:
                resource = _values(group.resource.attributes)
                self._spans += [_seen(span, resource) for scope in group.scope_spans for span in scope.spans]
            self._news.notify_all()

    def spans(self) -> list[Seen]:
        """All that came so far."""
        with self._news:
            return list(self._spans)

    def tree(self, execution_id: str, seconds: float = 60) -> tuple[Seen, list[Seen]]:
        """The span of an execution and those below it, by their starts, once they are here: it is sent last."""

        def root() -> Seen | None:
            found = (span for span in self._spans if span.attributes.get("executor.execution.id") == execution_id)
            return next(found, None)

        with self._news:
            assert self._news.wait_for(root, seconds), f"no span of {execution_id} came"
            top = root()
            assert top is not None
            below = [span for span in self._spans if span.parent_id == top.span_id]
        return top, sorted(below, key=lambda span: (span.start, span.end))

    def by_trace(self) -> dict[str, list[Seen]]:
        """All that came so far, by trace."""
        found = defaultdict(list)
        for span in self.spans():
            found[span.trace_id].append(span)
        return found


@contextlib.asynccontextmanager
async def tracing(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Collector, OpenTelemetry]]:
    """A collector, and what sends to it from this process, soon."""
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        found = OpenTelemetry(os.environ)
        yield collector, found
        await found.close()


def _handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            assert self.headers["Content-Type"] == "application/x-protobuf"
            collector.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                self.close_connection = True  # whoever sent it gave up

    return Handler


def _seen(span: SentSpan, resource: dict[str, Any]) -> Seen:
    return Seen(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        state=span.trace_state,
        name=span.name,
        kind=SentSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        start=span.start_time_unix_nano / 1e9,
        end=span.end_time_unix_nano / 1e9,
        failed=span.status.code == SentStatus.STATUS_CODE_ERROR,
        attributes=_values(span.attributes),
        events=tuple(event.name for event in span.events),
        resource=resource,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}
