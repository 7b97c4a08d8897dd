"""What Prometheus scrapes of the way to a cluster."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class ClusterMetrics:
    """Counts what the Kubernetes backend reports. Labels are verbs, resources, codes and ways: all of them few."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._heard_at: dict[str, float] = {}
        self._requests = Counter(
            "executor_kube_api_requests",
            "Requests to the API server, each attempt; the code is `unreachable` where none came.",
            ["verb", "resource", "code"],
            registry=registry,
        )
        self._seconds = Histogram(
            "executor_kube_api_request_duration_seconds",
            "Until the API server's answer began.",
            ["verb", "resource"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._restarts = Counter(
            "executor_watch_restarts", "Watches opened again, and why.", ["resource", "reason"], registry=registry
        )
        self._ages = Gauge(
            "executor_informer_last_event_age_seconds",
            "Since the watch last said anything; the API server sends a bookmark every minute.",
            ["resource"],
            registry=registry,
        )
        self._objects = Gauge(
            "executor_informer_objects", "Objects that the watch has told of.", ["resource"], registry=registry
        )
        self._runner_requests = Counter(
            "executor_runner_requests",
            "Requests that runners answered, by the way to them.",
            ["way"],
            registry=registry,
        )

    def api_request(self, verb: str, resource: str, code: str, seconds: float) -> None:
        """One attempt of a request."""
        self._requests.labels(verb, resource, code).inc()
        self._seconds.labels(verb, resource).observe(seconds)

    def watch_restarted(self, resource: str, reason: str) -> None:
        """A watch is opened again."""
        self._restarts.labels(resource, reason).inc()

    def informer_event(self, resource: str, objects: int) -> None:
        """A watch said something."""
        if resource not in self._heard_at:
            self._ages.labels(resource).set_function(lambda: time.monotonic() - self._heard_at[resource])
        self._heard_at[resource] = time.monotonic()
        self._objects.labels(resource).set(objects)

    def runner_answered(self, way: str) -> None:
        """A runner was reached."""
        self._runner_requests.labels(way).inc()
