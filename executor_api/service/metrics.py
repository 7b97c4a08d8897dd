"""What the service tells whoever counts. `http.metrics` turns it into Prometheus metrics."""

from __future__ import annotations

from typing import Protocol

from executor_api.domain.execution import Execution


class ServiceMetrics(Protocol):
    """Receives what happens, as it happens. Called on the event loop: must not block, must not raise."""

    def accepted(self) -> None:
        """An execution was recorded."""

    def started(self, start: str, seconds_queued: float) -> None:
        """A call goes to its sandbox; ``start`` is warm, cold or reused."""

    def finished(self, execution: Execution) -> None:
        """An outcome was recorded."""

    def queue_depth(self, n: int) -> None:
        """So many executions wait for a slot."""

    def running(self, n: int) -> None:
        """So many executions have a slot."""

    def resumed(self) -> None:
        """A journal is taken up again after its connection was lost."""

    def result_source(self, source: str) -> None:
        """An outcome came from http, status, log or evidence."""

    def garbage(self, n: int) -> None:
        """So many sandboxes that nobody wanted were deleted."""


class NoMetrics:
    """Counts nothing."""

    def accepted(self) -> None:
        """Ignore it."""

    def started(self, start: str, seconds_queued: float) -> None:
        """Ignore it."""

    def finished(self, execution: Execution) -> None:
        """Ignore it."""

    def queue_depth(self, n: int) -> None:
        """Ignore it."""

    def running(self, n: int) -> None:
        """Ignore it."""

    def resumed(self) -> None:
        """Ignore it."""

    def result_source(self, source: str) -> None:
        """Ignore it."""

    def garbage(self, n: int) -> None:
        """Ignore it."""
