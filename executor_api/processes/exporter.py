"""What Prometheus scrapes of a monitor: the last look, at no further cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from executor_api.processes.monitor import Look, Watched
from executor_api.processes.pressure import Pressure, Usage


class ProcessMetrics(Collector):
    """A collector for a registry. What is not known is left out."""

    def __init__(self, watched: Callable[[], Watched]) -> None:
        self._watched = watched

    def describe(self) -> Iterator[Metric]:
        """Nothing: there may be no look yet, and the registry should not ask for one."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The last look as it was."""
        watched = self._watched()
        yield CounterMetricFamily("agent_monitor_looks", "Looks taken.", value=watched.looks)
        yield CounterMetricFamily("agent_monitor_failed_looks", "Looks that failed.", value=watched.failures)
        if watched.last is not None:
            yield from _of_look(watched.last)


def _of_look(look: Look) -> Iterator[Metric]:
    yield _gauge("agent_monitor_last_look_timestamp_seconds", "When the last look ended.", look.at)
    yield _gauge("agent_monitor_last_look_cpu_seconds", "CPU time that it took.", look.seconds)
    yield _gauge("agent_processes", "Processes, zombies with them.", look.processes)
    yield from _known("agent_threads", "Threads of all of them; each takes a pid.", look.threads)
    yield from _known(
        "agent_orphan_processes", "Adopted by init, and leading no session as a daemon would.", look.orphans
    )
    yield _gauge("agent_zombie_processes", "Ended, and nobody has waited for them.", look.zombies)
    yield _by_name(
        "agent_zombie_processes_by_parent",
        "The same by the command that should wait for them.",
        "parent",
        look.zombies_by_parent,
    )
    yield _gauge("agent_d_state_processes", "In uninterruptible sleep at the moment of the look.", look.stuck)
    yield _by_name(
        "agent_d_state_processes_by_function",
        "The same by the function of the kernel they sleep in.",
        "function",
        look.stuck_by_function,
    )
    yield _gauge(
        "agent_d_state_longest_seconds",
        "Since the process that is longest in D state without a break was first seen there; 0 if there is none.",
        look.longest_stuck,
    )
    if look.pressure is not None:
        yield from _of_pressure(look.pressure)
    yield from _usages("agent_cgroup_pids", "Tasks of a cgroup that has a limit.", "cgroup", look.cgroups)
    yield from _usages(
        "agent_process_open_descriptors",
        "Open descriptors of the process of a command that is nearest to its limit.",
        "command",
        look.descriptors,
    )
    yield from _of_outlooks(look)


def _of_pressure(pressure: Pressure) -> Iterator[Metric]:
    if pressure.pids:
        yield _gauge("agent_pids_limit", "Most pids that the kernel gives out (pid_max).", pressure.pids.limit)
    if pressure.threads:
        yield _gauge("agent_threads_limit", "Most threads of the machine (threads-max).", pressure.threads.limit)
    if pressure.descriptors:
        yield _gauge("agent_open_descriptors", "Open files of the machine.", pressure.descriptors.used)
        yield _gauge("agent_open_descriptors_limit", "Most of them (file-max).", pressure.descriptors.limit)


def _of_outlooks(look: Look) -> Iterator[Metric]:
    rates = GaugeMetricFamily(
        "agent_growth_per_second",
        "What each second adds to the use of the limit reached first: the least of the thirds of the last 15 minutes.",
        labels=["resource"],
    )
    ends = GaugeMetricFamily(
        "agent_exhaustion_timestamp_seconds",
        "When the first of the limits is reached at this rate; +Inf if none ever is.",
        labels=["resource"],
    )
    for resource, outlook in look.outlooks.items():
        rates.add_metric([resource], outlook.per_second)
        ends.add_metric([resource], look.at + outlook.seconds_left)
    yield rates
    yield ends


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _known(name: str, text: str, value: float | None) -> Iterator[Metric]:
    if value is not None:
        yield _gauge(name, text, value)


def _by_name(name: str, text: str, label: str, figures: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in figures.items():
        family.add_metric([key], value)
    return family


def _usages(name: str, text: str, label: str, usages: Mapping[str, Usage]) -> Iterator[Metric]:
    yield _by_name(name, text, label, {key: usage.used for key, usage in usages.items()})
    limits = {key: usage.limit for key, usage in usages.items()}
    yield _by_name(f"{name}_limit", "Its limit.", label, limits)
