"""GPUs as NVIDIA's binding tells them, of a driver that answers what a test wants."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from support import read_gpus
from support.nvml import Gpus
from support.proc_tree import ProcTree

from executor_api.processes import gpu
from executor_api.processes.gpu import Device, GpuReading
from executor_api.processes.gpu_exporter import GpuMetrics


class Reader:
    """A program that reads GPUs, whenever it is asked to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def read(self) -> dict[str, Any]:
        """What it finds now."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found


@contextmanager
def reader(proc: object, *options: str, sysfs: object = "/sys", **environ: str) -> Iterator[Reader]:
    command = [sys.executable, *options, read_gpus.__file__, str(proc), str(sysfs)]
    env = {**os.environ, **environ}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True) as process:
        yield Reader(process)


@pytest.fixture
def gpus(tmp_path: Path) -> Gpus:
    (tmp_path / "nvml").mkdir()
    return Gpus(tmp_path / "nvml")


@pytest.fixture
def proc(tmp_path: Path) -> ProcTree:
    (tmp_path / "proc").mkdir()
    tree = ProcTree(tmp_path / "proc")
    tree.add(2, name="kthreadd", parent=0)
    return tree


def test_memory_of_the_dead_is_told_from_that_of_the_living(gpus: Gpus, proc: ProcTree) -> None:
    """Of four holders, a living one, one in D state, a zombie and one that is gone, the last two's memory is lost."""
    proc.add(11)
    proc.add(12, state="D")
    proc.add(13, state="Z")
    gpus.say(
        "device 0 8000000000",
        "used 0 1000",
        *(f"process 0 {pid} {size}" for pid, size in ((11, 100), (12, 200), (13, 300), (14, 400))),
    )
    with reader(proc, **gpus.environ) as asked:
        found = asked.read()
        gpus.say("device 0 8000000000", "used 0 300", "process 0 11 100", "process 0 12 200")
        later = asked.read()
    assert found == {
        "devices": [
            {
                "uuid": "GPU-0",
                "name": "Stand-in 0",
                "total_bytes": 8000000000,
                "used_bytes": 1000,
                "holders": [[11, "alive", 100], [12, "stuck", 200], [13, "zombie", 300], [14, "gone", 400]],
                "lost_bytes": 700,
            }
        ],
        "problem": "",
    }
    assert (later["devices"][0]["used_bytes"], later["devices"][0]["lost_bytes"]) == (300, 0)


def test_a_divided_device_is_read_in_its_parts(gpus: Gpus, proc: ProcTree) -> None:
    """Two whole devices, of which one has two parts, are three: the whole one, and the parts each by its own memory."""
    gpus.say(
        *(f"device {index} {1000 * (index + 1)}" for index in range(4)),
        *("mig 1", "mig 2", "used 1 5", "used 2 6", "used 3 7"),
    )
    with reader(proc, **gpus.environ) as asked:
        devices = asked.read()["devices"]
    assert [(device["uuid"], device["used_bytes"]) for device in devices] == [("GPU-1", 5), ("GPU-2", 6), ("GPU-3", 7)]


def test_a_container_accuses_nobody(gpus: Gpus, proc: ProcTree) -> None:
    """Where proc shows a container's processes only, a holder that is not among them is not taken for dead."""
    proc.add(2, name="sh")
    gpus.say("device 0 8000000000", "used 0 400", "process 0 14 400", "process 0 1 100")
    with reader(proc, **gpus.environ) as asked:
        device = asked.read()["devices"][0]
    assert device["holders"] == [[14, "unknown", 400], [1, "unknown", 100]]
    assert device["lost_bytes"] == 0


def test_only_a_process_without_any_thread_has_ended(gpus: Gpus, proc: ProcTree) -> None:
    """One whose first thread alone has ended goes on, and what it holds is not lost."""
    proc.add(13, state="Z", threads=3)
    gpus.say("device 0 8000000000", "process 0 13 300")
    with reader(proc, **gpus.environ) as asked:
        device = asked.read()["devices"][0]
    assert device["holders"] == [[13, "alive", 300]]
    assert device["lost_bytes"] == 0


def test_a_size_that_the_driver_does_not_tell_is_none(gpus: Gpus, proc: ProcTree) -> None:
    """Its number for "not available" is no number of bytes."""
    gpus.say("device 0 8000000000", f"process 0 14 {2**64 - 1}")
    with reader(proc, **gpus.environ) as asked:
        device = asked.read()["devices"][0]
    assert (device["holders"], device["lost_bytes"]) == ([[14, "gone", None]], 0)


def test_a_device_that_is_lost_hides_no_other(gpus: Gpus, proc: ProcTree) -> None:
    """What has fallen off the bus is told as a problem, the others are read; and it is read again when it is back."""
    devices = ("device 0 1000", "device 1 2000")
    gpus.say(*devices, "lost 0")
    with reader(proc, **gpus.environ) as asked:
        found = asked.read()
        gpus.say(*devices)
        later = asked.read()
    assert [device["uuid"] for device in found["devices"]] == ["GPU-1"]
    assert found["problem"] == "NVIDIA's driver, of GPU 0: GPU is lost"
    assert ([device["uuid"] for device in later["devices"]], later["problem"]) == (["GPU-0", "GPU-1"], "")


def test_amd_devices_are_read_from_the_kernel(tmp_path: Path, proc: ProcTree) -> None:
    """Each by its address, with who computes on it; a process that is gone holds lost memory. No driver, no problem."""
    (tmp_path / "libnvidia-ml.so.1").touch()  # hides a real one
    proc.add(11)
    sysfs = tmp_path / "sys"
    files = {
        "devices/0000:03:00.0/mem_info_vram_total": "16000000000",
        "devices/0000:03:00.0/mem_info_vram_used": "700",
        "devices/0000:03:00.0/product_name": "Instinct",
        "devices/0000:00:02.0/vendor": "0x8086",
        "class/kfd/kfd/topology/nodes/0/gpu_id": "0",
        "class/kfd/kfd/topology/nodes/0/properties": "cpu_cores_count 8\ndrm_render_minor 0",
        "class/kfd/kfd/topology/nodes/1/gpu_id": "4711",
        "class/kfd/kfd/topology/nodes/1/properties": "simd_count 4\ndrm_render_minor 128",
        "class/kfd/kfd/proc/11/vram_4711": "300",
        "class/kfd/kfd/proc/14/vram_4711": "400",
        "class/kfd/kfd/proc/15/vram_4712": "500",
    }
    for name, text in files.items():
        (sysfs / name).parent.mkdir(parents=True, exist_ok=True)
        (sysfs / name).write_text(f"{text}\n")
    for node, device in (("renderD128", "0000:03:00.0"), ("renderD129", "0000:00:02.0")):
        (sysfs / "class/drm" / node).mkdir(parents=True)
        (sysfs / "class/drm" / node / "device").symlink_to(sysfs / "devices" / device)
    with reader(proc, sysfs=sysfs, LD_LIBRARY_PATH=str(tmp_path)) as asked:
        found = asked.read()
    [device] = found["devices"]
    assert (device["uuid"], device["name"], device["total_bytes"], device["used_bytes"]) == (
        *("0000:03:00.0", "Instinct"),
        *(16000000000, 700),
    )
    assert sorted(device["holders"]) == [[11, "alive", 300], [14, "gone", 400]]
    assert (device["lost_bytes"], found["problem"]) == (400, "")


def test_a_driver_that_comes_later_is_found(gpus: Gpus, proc: ProcTree) -> None:
    """Its refusal is said in its own words; when it is loaded, the same reader reads it."""
    gpus.say("fail 9")
    with reader(proc, **gpus.environ) as asked:
        assert asked.read() == {"devices": [], "problem": "NVIDIA's driver: Driver Not Loaded"}
        gpus.say("device 0 8000000000")
        assert len(asked.read()["devices"]) == 1


def test_the_monitor_exports_memory_of_the_dead(gpus: Gpus, proc: ProcTree) -> None:
    """Each device by its id: its size, what is in use of it, and what is held for processes that have ended.

    Of one of them the driver does not tell how much: it is counted all the same.
    """
    gpus.say(
        *("device 0 8000000000", "device 1 8000000000", "used 1 500"),
        *("process 1 14 400", f"process 0 15 {2**64 - 1}"),
    )
    found = _exported(proc, gpus.environ)
    assert {name: value for name, value in found.items() if "timestamp" not in name[0]} == {
        ("agent_gpu_memory_bytes", "GPU-0"): 8e9,
        ("agent_gpu_memory_bytes", "GPU-1"): 8e9,
        ("agent_gpu_memory_used_bytes", "GPU-0"): 0,
        ("agent_gpu_memory_used_bytes", "GPU-1"): 500,
        ("agent_gpu_memory_lost_bytes", "GPU-0"): 0,
        ("agent_gpu_memory_lost_bytes", "GPU-1"): 400,
        ("agent_gpu_ended_holders", "GPU-0"): 1,
        ("agent_gpu_ended_holders", "GPU-1"): 1,
        ("agent_gpu_missing_devices", None): 0,
    }
    assert time.time() - found["agent_gpu_last_reading_timestamp_seconds", None] < 60


class Answers(gpu.Gpus):
    """Readings that a test has written."""

    def __init__(self, *readings: GpuReading | Exception, proc: str = "/proc") -> None:
        super().__init__(proc)
        self._readings = list(readings)

    def read(self) -> GpuReading:
        """The next."""
        reading = self._readings.pop(0)
        if isinstance(reading, Exception):
            raise reading
        return reading


def test_the_time_stands_still_while_a_device_is_missing() -> None:
    """Without GPUs there is no time; after a reading that lacks a device, it is still that of the last whole one."""
    device, problem = Device("GPU-0", "x", 8, 4, ()), "GPU 1: GPU is lost"
    whole = GpuReading((device,), number=2)
    metrics = GpuMetrics(
        Answers(GpuReading((), "no driver"), whole, GpuReading((device,), problem), GpuReading((), problem))
    )
    registry = CollectorRegistry()
    registry.register(metrics)
    times, used = [], []
    for _ in range(4):
        metrics.look()
        times.append(registry.get_sample_value("agent_gpu_last_reading_timestamp_seconds"))
        used.append(registry.get_sample_value("agent_gpu_memory_used_bytes", {"uuid": "GPU-0"}))
    assert used == [None, 4, 4, None]
    assert times[0] is None
    assert times[1] == times[2] == times[3] is not None


def test_a_driver_that_never_answers_has_a_time_all_the_same(tmp_path: Path) -> None:
    """It is loaded, so the monitor's own start counts, from which an alert reckons; errors end nothing."""
    (tmp_path / "driver/nvidia").mkdir(parents=True)
    metrics = GpuMetrics(
        Answers(RuntimeError("mismatch"), GpuReading((Device("GPU-0", "x", 8, 4, ()),), number=1), proc=str(tmp_path))
    )
    registry = CollectorRegistry()
    registry.register(metrics)
    began = registry.get_sample_value("agent_gpu_last_reading_timestamp_seconds")
    metrics.look()
    assert registry.get_sample_value("agent_gpu_last_reading_timestamp_seconds") == began is not None
    metrics.look()
    assert registry.get_sample_value("agent_gpu_memory_used_bytes", {"uuid": "GPU-0"}) == 4


EXPORTER = """
import sys
from prometheus_client import CollectorRegistry
from executor_api.processes.gpu import Gpus
from executor_api.processes.gpu_exporter import GpuMetrics

metrics, registry = GpuMetrics(Gpus(sys.argv[1])), CollectorRegistry()
registry.register(metrics)
for _ in sys.stdin:
    metrics.look()
    print(registry.get_sample_value("agent_gpu_missing_devices"), flush=True)
"""
"""A program that exports GPUs, and reads them whenever it is asked to."""


def test_a_gpu_that_the_driver_does_not_count_any_more_is_missing(gpus: Gpus, proc: ProcTree) -> None:
    """Lost at first, then not even counted after a new beginning; back, it is missing no more, and never in between.

    While the driver refuses, what is known stays; when it is unloaded, all are missing.
    """
    both = ("device 0 1000", "device 1 2000")
    steps = (both, (*both, "lost 1"), both[:1], both[:1], ("fail 999",), both, ("fail 9",), both)
    command = [sys.executable, "-c", EXPORTER, str(proc)]
    env = {**os.environ, **gpus.environ}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True) as process:
        assert process.stdin
        assert process.stdout
        found = []
        for step in steps:
            gpus.say(*step)
            process.stdin.write("\n")
            process.stdin.flush()
            found.append(float(process.stdout.readline()))
    assert found == [0, 1, 1, 1, 1, 0, 2, 0]


def test_who_can_not_ask_the_driver_misses_nothing(tmp_path: Path) -> None:
    """A monitor without the library of a driver that is loaded tells no time, so that no alert reckons from it."""
    (tmp_path / "driver/nvidia").mkdir(parents=True)
    metrics = GpuMetrics(Answers(GpuReading((), "no library", absent=True), proc=str(tmp_path)))
    registry = CollectorRegistry()
    registry.register(metrics)
    metrics.look()
    assert registry.get_sample_value("agent_gpu_last_reading_timestamp_seconds") is None


def test_a_driver_older_than_its_binding_tells_devices_without_processes(tmp_path: Path, proc: ProcTree) -> None:
    """It lacks the function that the binding asks for, which hides no device."""
    (tmp_path / "old").mkdir()
    gpus = Gpus(tmp_path / "old", "-DOLD")
    gpus.say("device 0 8000000000", "used 0 500", "process 0 14 400")
    with reader(proc, **gpus.environ) as asked:
        (device,) = asked.read()["devices"]
    assert (device["used_bytes"], device["holders"]) == (500, [])


def _exported(proc: ProcTree, environ: dict[str, str]) -> dict[tuple[str, str | None], float]:
    """Metrics of GPUs, once the monitor has read any."""
    command = [sys.executable, "-m", "executor_api", "monitor", "--port", "0", "--proc", str(proc)]
    with subprocess.Popen(command, env={**os.environ, **environ}, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            url = process.stderr.readline().split()[-1]
            until = time.monotonic() + 20
            while "agent_gpu_last_reading" not in (text := httpx.get(url).text):
                assert time.monotonic() < until
                time.sleep(0.05)
        finally:
            process.kill()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, sample.labels.get("uuid")): sample.value for sample in samples if "agent_gpu" in sample.name}


def test_without_driver_or_binding_that_is_said(tmp_path: Path, proc: ProcTree) -> None:
    """A machine without the driver's library says so, and one without the binding how to get it."""
    (tmp_path / "libnvidia-ml.so.1").touch()  # hides a real one
    with reader(proc, LD_LIBRARY_PATH=str(tmp_path)) as asked:
        assert asked.read() == {"devices": [], "problem": "NVIDIA's driver: NVML Shared Library Not Found"}
    with reader(proc, "-S", PYTHONPATH=str(Path(__file__).parents[2])) as asked:
        assert "executor-api[gpu]" in asked.read()["problem"]
