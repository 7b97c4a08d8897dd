"""What the service tells whoever traces. `service.otel` hands it to OpenTelemetry."""

from __future__ import annotations

from typing import Protocol

from executor_api.domain.execution import Execution
from executor_api.domain.passage import Passage
from executor_api.domain.trace_context import TraceContext


class Tracing(Protocol):
    """Called on the event loop: must not block, must not raise."""

    def context(self, execution: Execution) -> TraceContext | None:
        """Where in its trace the execution is, for what its code traces; None if there is no trace."""

    def ended(self, execution: Execution, passed: Passage) -> None:
        """An outcome was recorded, after the execution had passed these points."""


class ClosableTracing(Tracing, Protocol):
    """One that sends what it is told to a collector, a while later."""

    async def reaches_collector(self) -> bool:
        """Whether that takes it."""

    async def close(self) -> None:
        """Send the rest, within a bounded time."""


class NoTracing:
    """Leaves the trace to the caller and the code."""

    def context(self, execution: Execution) -> TraceContext | None:
        """The caller's own place."""
        return execution.caller_trace

    def ended(self, execution: Execution, passed: Passage) -> None:
        """Ignore it."""
