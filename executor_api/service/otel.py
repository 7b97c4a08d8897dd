"""Hands the spans of finished executions to OpenTelemetry's SDK, which sends them to a collector (OTLP over HTTP).

Where it is, and all else, is said by the SDK's own ``OTEL_*`` variables.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Mapping
from urllib.parse import urlsplit

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator

from executor_api import __version__
from executor_api.domain import spans
from executor_api.domain.execution import Execution
from executor_api.domain.passage import Passage
from executor_api.domain.trace_context import TraceContext, own_span_id, own_trace_id
from executor_api.errors import ConfigurationError

_log = structlog.get_logger(__name__)

FLUSH_SECONDS = 2.0
"""How long a service that stops waits for its last spans to be taken."""

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_DELAY, _QUEUE, _BATCH = "OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
_MOST = 2**31 - 1


class OpenTelemetry:
    """Sends spans from a thread of its own. Those that can't be sent are lost: no call waits for a collector.

    Of ``environ`` only ``OTEL_BSP_*`` is followed, and the rest checked: the SDK reads the process's own.
    Raises `ConfigurationError`.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._ids = _Ids()
        self._failing = False
        own = Resource.create({"service.name": "executor-api", "service.version": __version__})
        resource = own.merge(OTELResourceDetector().detect())
        try:
            _check(environ)
            self._exporter = OTLPSpanExporter()
            self._processor = _processor(self._exporter, environ)
        except ValueError as error:
            raise ConfigurationError(f"tracing can't be set up: {error}; see the OTEL_* variables") from None
        provider = TracerProvider(resource=resource, shutdown_on_exit=False, id_generator=self._ids)
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("executor_api", __version__)

    def context(self, execution: Execution) -> TraceContext | None:
        """The execution's own span, which is made only once it has ended: its id, and whether it will be recorded."""
        try:
            return self._context(execution)
        except Exception as error:  # noqa: BLE001 - a sampler of somebody's must not cost a call
            self._fail(error)
            return execution.caller_trace

    def ended(self, execution: Execution, passed: Passage) -> None:
        """Make its spans, unless its trace is not recorded."""
        try:
            self._end(execution, passed)
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Tell the first: the next will be the same."""
        if not self._failing:
            _log.error("a call could not be traced", exc_info=error)
        self._failing = True

    def _context(self, execution: Execution) -> TraceContext | None:
        context = self._root(execution, spans.span_name(execution), execution.created_at).get_span_context()
        if not context.is_valid:
            return execution.caller_trace  # the SDK is told to do nothing
        parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        return TraceContext(parent, context.trace_state.to_header())

    def _end(self, execution: Execution, passed: Passage) -> None:
        tree = spans.tree(execution, passed)
        root = self._root(execution, tree.root.name, tree.root.start)
        if not root.is_recording():
            return
        within = trace.set_span_in_context(root)
        try:
            for number, phase in enumerate(tree.phases):
                self._ids.span_id = own_span_id(execution.id, f"{number} {phase.name}")
                _end(self._tracer.start_span(phase.name, within, start_time=_nanoseconds(phase.start)), phase)
        finally:  # phases that were sent are below it
            _end(root, tree.root)

    async def reaches_collector(self) -> bool:
        """Whether it takes what is sent there, which is nothing this time."""
        return await asyncio.to_thread(self._exporter.export, []) is SpanExportResult.SUCCESS

    async def close(self) -> None:
        """Send what waits to be sent, for `FLUSH_SECONDS` at most."""
        # A daemon: a collector that keeps silent must not keep the process.
        sending = threading.Thread(target=self._processor.shutdown, name="last-spans", daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, FLUSH_SECONDS)

    def _root(self, execution: Execution, name: str, start: float) -> trace.Span:
        self._ids.trace_id, self._ids.span_id = own_trace_id(execution.id), own_span_id(execution.id)
        parent = _parent(execution.caller_trace)
        return self._tracer.start_span(name, parent, trace.SpanKind.SERVER, start_time=_nanoseconds(start))


class _Ids(IdGenerator):
    """Gives the span that is made next the ids that were chosen for it."""

    trace_id = 0
    span_id = 0

    def generate_trace_id(self) -> int:
        """Of a span without a parent."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """Of any span."""
        return self.span_id

    def is_trace_id_random(self) -> bool:
        """As far as W3C Trace Context wants it: the last 56 bits."""
        return True


def _parent(caller: TraceContext | None) -> Context:
    """The caller's span; without one an empty context, so that the span begins a trace."""
    if caller is None:
        return Context()
    flags, state = trace.TraceFlags(caller.flags), trace.TraceState.from_header([caller.tracestate])
    context = trace.SpanContext(
        int(caller.trace_id, 16), int(caller.span_id, 16), is_remote=True, trace_flags=flags, trace_state=state
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(context), Context())


def _end(span: trace.Span, made: spans.Span) -> None:
    span.set_attributes(made.attributes)
    for name, at in made.events:
        span.add_event(name, timestamp=_nanoseconds(at))
    if made.error:
        span.set_attribute("error.type", made.error)
        span.set_status(trace.StatusCode.ERROR)
    span.end(_nanoseconds(made.end))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _processor(exporter: OTLPSpanExporter, environ: Mapping[str, str]) -> BatchSpanProcessor:
    """With the SDK's own defaults, but batches never larger than the queue. Raises `ConfigurationError`."""
    delay, queue = _number(environ, _DELAY, 5000), _number(environ, _QUEUE, 2048)
    batch = _number(environ, _BATCH, min(512, queue))
    if batch > queue:
        raise ConfigurationError(
            f"{_BATCH} is {batch}, and {_QUEUE} {queue}: set it to {queue} at most, or leave it out"
        )
    return BatchSpanProcessor(exporter, queue, delay, batch)


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    value = environ.get(name) or str(default)
    if not re.fullmatch("[0-9]{1,10}", value) or not 1 <= int(value) <= _MOST:
        raise ConfigurationError(
            f"{name} must be a whole number from 1 to {_MOST}, not {value!r}; left out, it is {default}"
        )
    return int(value)


def _check(environ: Mapping[str, str]) -> None:
    """What the exporter would only find out call by call."""
    for name in _PROTOCOLS:
        if environ.get(name, _PROTOCOL) not in ("", _PROTOCOL):
            raise ConfigurationError(
                f"{name} is {environ[name]!r}, and traces go out as {_PROTOCOL} only: set that, and the endpoint to "
                "the collector's port for it, which is 4318 as a rule"
            )
    for name in _ENDPOINTS:
        value = environ.get(name, "")
        if value and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
            raise ConfigurationError(f"{name} must be a URL such as http://collector:4318, not {value!r}")
