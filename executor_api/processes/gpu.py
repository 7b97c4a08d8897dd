"""NVIDIA's GPUs of this machine: how full their memory is, and how much of it belongs to processes that have ended.

Asks the driver by ``nvidia-ml-py``, the extra ``gpu``. A driver in trouble may answer late or never: ask it in a thread
that nothing waits for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import StrEnum
from importlib import import_module
from typing import Any, NamedTuple

from executor_api.processes.process_table import PROC, STUCK, ZOMBIE, read_process

_NO_BINDING = "NVIDIA's GPUs can't be read without nvidia-ml-py; install executor-api[gpu]"
_FIRST_OF_KERNEL = "kthreadd"


class HolderState(StrEnum):
    """What a process that holds memory of a GPU is by now."""

    ALIVE = "alive"
    STUCK = "stuck"
    """In D state: its memory can't be freed."""
    ZOMBIE = "zombie"
    GONE = "gone"
    UNKNOWN = "unknown"
    """The driver tells pids of the machine, and from a container of its own pids nobody sees whose they are."""


class Holder(NamedTuple):
    """Who holds how much. ``used_bytes`` is None where the driver does not tell."""

    pid: int
    state: HolderState
    used_bytes: int | None


class Device(NamedTuple):
    """One GPU, or a part of one that is divided (MIG)."""

    uuid: str
    name: str
    total_bytes: int
    used_bytes: int
    holders: tuple[Holder, ...]

    @property
    def lost_bytes(self) -> int:
        """Held for processes that have ended: gone or zombies."""
        lost = (HolderState.GONE, HolderState.ZOMBIE)
        return sum(holder.used_bytes or 0 for holder in self.holders if holder.state in lost)


class GpuReading(NamedTuple):
    """What was found. ``problem`` says why there are no devices, "" if all is well."""

    devices: tuple[Device, ...]
    problem: str = ""


class Gpus:
    """Reads all devices; without GPU, driver or binding each reading says so, and costs next to nothing.

    ``proc``: the file system of the machine's processes.
    """

    def __init__(self, proc: str = PROC) -> None:
        self._proc = proc
        self._nvml: Any = None

    def read(self) -> GpuReading:
        """Read them now. Never raises."""
        try:
            nvml = import_module("pynvml")
        except ImportError:
            return GpuReading((), _NO_BINDING)
        try:
            if self._nvml is None:
                nvml.nvmlInit()
                self._nvml = nvml  # stays open: where nothing else has it open, opening it takes a second
            return GpuReading(tuple(self._device(handle) for handle in _handles(nvml)))
        except nvml.NVMLError as error:
            return GpuReading((), f"NVIDIA's driver: {error}")

    def _device(self, handle: Any) -> Device:
        nvml = self._nvml
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        return Device(
            uuid=nvml.nvmlDeviceGetUUID(handle),
            name=nvml.nvmlDeviceGetName(handle),
            total_bytes=memory.total,
            used_bytes=memory.used,
            holders=tuple(self._holders(handle)),
        )

    def _holders(self, handle: Any) -> Iterator[Holder]:
        found = self._look(handle)
        if any(holder.state in (HolderState.GONE, HolderState.ZOMBIE) for holder in found):
            held = {(holder.pid, holder.used_bytes) for holder in found}  # one may have ended while we looked
            found = [holder for holder in self._look(handle) if (holder.pid, holder.used_bytes) in held]
        yield from found

    def _look(self, handle: Any) -> list[Holder]:
        nvml = self._nvml
        used: dict[int, int | None] = {}
        for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
            try:
                used.update((process.pid, process.usedGpuMemory) for process in ask(handle))
            except (nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission):
                continue  # parts of a device tell no processes
        return [Holder(pid, self._state(pid), size) for pid, size in used.items()]

    def _state(self, pid: int) -> HolderState:
        if not self._sees_the_machine():
            return HolderState.UNKNOWN
        process = read_process(pid, self._proc)
        if process is None:
            return HolderState.GONE
        return {ZOMBIE: HolderState.ZOMBIE, STUCK: HolderState.STUCK}.get(process.state, HolderState.ALIVE)

    def _sees_the_machine(self) -> bool:
        """The kernel's own threads are in the machine's PID namespace only."""
        kernel = read_process(2, self._proc)
        return kernel is not None and kernel.name == _FIRST_OF_KERNEL


def _handles(nvml: Any) -> Iterator[Any]:
    for index in range(nvml.nvmlDeviceGetCount()):
        whole = nvml.nvmlDeviceGetHandleByIndex(index)
        yield from _parts(nvml, whole) or [whole]


def _parts(nvml: Any, whole: Any) -> list[Any]:
    """Of a device that is divided (MIG); none of any other."""
    try:
        most = nvml.nvmlDeviceGetMaxMigDeviceCount(whole)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
        return []
    found = []
    for index in range(most):
        with contextlib.suppress(nvml.NVMLError_NotFound, nvml.NVMLError_InvalidArgument):
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, index))
    return found
