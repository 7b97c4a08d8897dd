"""What Prometheus scrapes of the warm pools: read from them at that moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from executor_api.domain.pool import PoolStatus


class PoolMetrics(Collector):
    """A collector for a registry. One label is the template, which operators name."""

    def __init__(self, pools: Callable[[], Sequence[PoolStatus]]) -> None:
        self._pools = pools

    def describe(self) -> Iterator[Metric]:
        """The names, so that a second collector of them is refused."""
        return iter(_families())

    def collect(self) -> Iterator[Metric]:
        """The pools as they are."""
        pods, target, claims, replacement = _families()
        for pool in self._pools():
            for state, count in (("starting", pool.starting), ("ready", pool.ready), ("taken", pool.taken)):
                pods.add_metric([pool.template, state], count)
            target.add_metric([pool.template], pool.desired)
            results = {"hit": pool.hits, "wait": pool.waits, "miss": pool.misses, "conflict": pool.conflicts}
            for result, count in results.items():
                claims.add_metric([pool.template, result], count)
            if pool.replacement_seconds is not None:
                replacement.add_metric([pool.template], pool.replacement_seconds)
        return iter((pods, target, claims, replacement))


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, CounterMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily("executor_pool_pods", "Sandboxes of a pool.", labels=["template", "state"]),
        GaugeMetricFamily("executor_pool_target", "Sandboxes that should wait.", labels=["template"]),
        CounterMetricFamily(
            "executor_pool_claims",
            "Claims of this process: hit found one waiting, wait waited for one, miss got none; of the first two, "
            "conflict met one that was gone.",
            labels=["template", "result"],
        ),
        GaugeMetricFamily(
            "executor_pool_replacement_seconds",
            "From the showing of a sandbox's pod to ready, a running mean.",
            labels=["template"],
        ),
    )
