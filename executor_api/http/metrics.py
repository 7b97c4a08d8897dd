"""What Prometheus scrapes. Seconds and bytes; no label that grows with use. Each app has a registry of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from executor_api import __version__
from executor_api.domain.execution import Execution, Timings
from executor_api.domain.outcome import Outcome, Reason, leaked
from executor_api.processes.exporter import ProcessMetrics
from executor_api.processes.monitor import Watched
from executor_api.service.last_hour import LastHour
from executor_runner.protocol.shapes import Processes

_log = structlog.get_logger(__name__)

_BUCKETS = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75),
    *(1, 2, 5, 10, 30, 60, 120, 300, 600),
)
_SIZES = tuple(4.0**power for power in range(4, 14))

OUTCOMES: dict[Reason | None, str] = {
    None: "ok",
    Reason.EXIT_CODE: "error",
    Reason.EXCEPTION: "error",
    Reason.SETUP_FAILED: "error",
    Reason.SIGNAL: "killed",
    Reason.TIMEOUT: "timeout",
    Reason.CANCELLED: "cancelled",
    Reason.OUT_OF_MEMORY: "oom",
    Reason.OUTPUT_LIMIT: "limit",
    Reason.PROCESS_LIMIT: "limit",
    Reason.STORAGE_LIMIT: "limit",
    Reason.EVICTED: "lost",
    Reason.PREEMPTED: "lost",
    Reason.NODE_LOST: "lost",
    Reason.SANDBOX_LOST: "lost",
    Reason.IMAGE_PULL: "rejected",
    Reason.UNSCHEDULABLE: "rejected",
    Reason.QUOTA: "rejected",
    Reason.START_TIMEOUT: "rejected",
    Reason.REJECTED_TEMPLATE: "rejected",
}


class Metrics:
    """Counts what the service and the HTTP edge report, and logs one line for each execution that ended."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.hour = LastHour()
        self.watched: Callable[[], Watched] = lambda: Watched(None, 0, 0)
        """The service's own processes, if somebody looks at them: see `watch`."""
        ProcessCollector(registry=self.registry)
        self._counters()
        self._gauges()
        self._histograms()

    def _counters(self) -> None:
        self._accepted = self._counter("executions_accepted", "Executions accepted and recorded.")
        self._executions = self._counter(
            "executions", "Executions that ended.", "mode", "language", "template", "outcome"
        )
        self._resumed = self._counter("journals_resumed", "Journals taken up again after a lost connection.")
        self._sources = self._counter("result_source", "Which copy of the result was read.", "source")
        self._garbage = self._counter("orphans_collected", "Sandboxes deleted that nobody wanted.")
        self._truncated = self._counter("output_truncated", "Streams with bytes dropped.", "stream")
        self._left_behind = self._counter("processes_left_behind", "Processes that calls left and the runner ended.")
        self._zombies = self._counter("processes_zombies", "Of them, those that had ended and nobody had waited for.")
        self._unkillable = self._counter("processes_unkillable", "Of them, those that could not be ended (D state).")
        self._gpu_leaks = self._counter(
            "gpu_leaks", "Calls whose GPU memory did not come back, or whose GPU's driver did not answer."
        )
        self._gpu_leaked_bytes = self._counter("gpu_leaked_bytes", "GPU memory that did not come back after calls.")
        self._auth_failures = self._counter("auth_failures", "Requests without a valid key or token.", "method")
        self._auth_expired = self._counter("auth_expired", "Of them, those whose key or token has expired.", "method")
        self._rate_limited = self._counter("rate_limited", "Requests refused with 429.")

    def _gauges(self) -> None:
        self._queue = Gauge("executor_queue_depth", "Executions that wait for a slot.", registry=self.registry)
        self._running = Gauge("executor_inflight_executions", "Executions that hold a slot.", registry=self.registry)
        build = Gauge("executor_build_info", "Which program this is; always 1.", ["version"], registry=self.registry)
        build.labels(__version__).set(1)

    def _histograms(self) -> None:
        self._waits = Histogram(
            "executor_queue_wait_seconds", "Wait for a slot.", buckets=_BUCKETS, registry=self.registry
        )
        self._durations = Histogram(
            "executor_execution_duration_seconds",
            "Phases of executions that ended.",
            ["phase", "mode"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._output = Histogram(
            "executor_output_bytes", "Bytes printed by one call.", ["stream"], buckets=_SIZES, registry=self.registry
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"executor_{name}", text, labels, registry=self.registry)

    def watch(self, watched: Callable[[], Watched]) -> None:
        """Export what these looks at processes find."""
        self.watched = watched
        self.registry.register(ProcessMetrics(watched))

    def accepted(self) -> None:
        """An execution was recorded."""
        self._accepted.inc()

    def started(self, start: str, seconds_queued: float) -> None:  # noqa: ARG002  ended ones count by start
        """A call goes to its sandbox."""
        self._waits.observe(seconds_queued)

    def finished(self, execution: Execution) -> None:
        """An execution was settled."""
        outcome = execution.outcome
        if outcome is None:
            return
        _log_ending(execution, outcome)
        self.hour.finished(execution)
        mode = execution.start or "none"
        request = execution.request
        self._executions.labels(mode, request.kind, request.template, OUTCOMES[outcome.reason]).inc()
        self._observe_phases(execution.timings, mode)
        self._observe_output(outcome)
        self._count_processes(outcome.processes)
        if outcome.gpu is not None and leaked(outcome.gpu):
            self._gpu_leaks.inc()
            self._gpu_leaked_bytes.inc(outcome.gpu["leaked_bytes"])

    def _observe_phases(self, timings: Timings, mode: str) -> None:
        for phase in fields(timings):
            milliseconds = getattr(timings, phase.name)
            if milliseconds is not None:
                self._durations.labels(phase.name, mode).observe(milliseconds / 1000)

    def _observe_output(self, outcome: Outcome) -> None:
        for stream, size, dropped in (
            ("stdout", outcome.stdout_bytes, outcome.stdout_dropped_bytes),
            ("stderr", outcome.stderr_bytes, outcome.stderr_dropped_bytes),
        ):
            self._output.labels(stream).observe(size)
            if dropped:
                self._truncated.labels(stream).inc()

    def _count_processes(self, processes: Processes | None) -> None:
        if processes is not None:
            self._left_behind.inc(processes["left_behind"])
            self._zombies.inc(processes["zombies"])
            self._unkillable.inc(processes["unkillable"])

    def queue_depth(self, n: int) -> None:
        """So many executions wait."""
        self._queue.set(n)
        self.hour.queue(n)

    def running(self, n: int) -> None:
        """So many executions hold a slot."""
        self._running.set(n)
        self.hour.run(n)

    def resumed(self) -> None:
        """A journal was taken up again."""
        self._resumed.inc()

    def result_source(self, source: str) -> None:
        """A result was read from this copy."""
        self._sources.labels(source).inc()

    def garbage(self, n: int) -> None:
        """So many unwanted sandboxes were deleted."""
        self._garbage.inc(n)

    def auth_failed(self, method: str) -> None:
        """A request came without a valid key or token."""
        self._auth_failures.labels(method).inc()

    def auth_expired(self, method: str) -> None:
        """Its key or token had been valid."""
        self._auth_expired.labels(method).inc()

    def rate_limited(self) -> None:
        """A request was refused with 429."""
        self._rate_limited.inc()


def _log_ending(execution: Execution, outcome: Outcome) -> None:
    _log.info(
        "execution finished",
        execution=execution.id,
        status=outcome.status,
        reason=outcome.reason,
        template=execution.request.template,
        start=execution.start,
        sandbox=execution.sandbox and execution.sandbox.name,
        total_ms=execution.timings.total,
    )
