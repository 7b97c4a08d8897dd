"""What Prometheus scrapes of a machine's GPUs: the last reading. Machines without any export nothing of them.

While a driver, or one device, does not answer, the time of the last whole reading stands still. A device that is lost,
or not counted any more, is missing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from executor_api.processes.gpu import GpuReading, Gpus

_SECONDS = 15.0
"""Between two readings."""


class GpuMetrics(Collector):
    """A collector for a registry. It reads in a thread of its own: a driver in trouble may never answer."""

    def __init__(self, gpus: Gpus) -> None:
        self._gpus = gpus
        self._last = GpuReading(())
        self._most = self._missing = 0
        self._whole_at = time.time() if gpus.has_driver else 0.0
        """At first our start, so that a driver that never answers is missed as well."""

    def start(self) -> None:
        """Start reading. The thread ends with the process."""
        threading.Thread(target=self._run, name="gpus", daemon=True).start()

    def describe(self) -> Iterator[Metric]:
        """Nothing: there may be no reading yet."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The last reading as it was."""
        if self._whole_at:
            text = "When the last reading ended that told of every device, or the monitor began to read."
            yield GaugeMetricFamily("agent_gpu_last_reading_timestamp_seconds", text, value=self._whole_at)
        if self._most:
            text = "GPUs that are not there, of the most there have been since the monitor began to read."
            yield GaugeMetricFamily("agent_gpu_missing_devices", text, value=self._missing)
        devices = self._last.devices
        if not devices:
            return
        for name, text, figures in (
            ("agent_gpu_memory_bytes", "Memory of a GPU.", [device.total_bytes for device in devices]),
            ("agent_gpu_memory_used_bytes", "In use of it.", [device.used_bytes for device in devices]),
            (
                "agent_gpu_memory_lost_bytes",
                "Of that, held for processes that have ended: gone, or zombies.",
                [device.lost_bytes for device in devices],
            ),
            (
                "agent_gpu_ended_holders",
                "Processes that have ended, and that the driver still lists.",
                [device.ended_holders for device in devices],
            ),
        ):
            family = GaugeMetricFamily(name, text, labels=["uuid"])
            for device, figure in zip(devices, figures, strict=True):
                family.add_metric([device.uuid], figure)
            yield family

    def look(self) -> None:
        """Read now. Whatever a driver makes of it, the next reading may be good; without its thread there is none."""
        try:
            self._last = self._gpus.read()
        except Exception as error:  # noqa: BLE001
            self._last = GpuReading((), f"{type(error).__name__}: {error}")
        if self._last.number is not None:
            self._most = max(self._most, self._last.number)
            self._missing = self._most - self._last.number
        if self._last.absent:
            self._whole_at = 0.0  # a container that was not given the driver's library misses nothing
        elif self._most and not self._last.problem:
            self._whole_at = time.time()

    def _run(self) -> None:
        rest = threading.Event()
        while True:
            self.look()
            rest.wait(_SECONDS)
