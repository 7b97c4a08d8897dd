"""NVIDIA's GPUs as their driver tells of them, by ``nvidia-ml-py``, the extra ``gpu``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple

from executor_api.processes.gpu_memory import Memory

_NO_BINDING = "NVIDIA's GPUs can't be read without nvidia-ml-py; install executor-api[gpu]"


class Found(NamedTuple):
    """What the driver told. ``problem``: what it did not tell, and why; ``absent``: there is none to ask.

    ``number``: whole GPUs that it has, and of which it does not say that they are lost; None if it does not tell.
    """

    devices: tuple[Memory, ...]
    problem: str = ""
    absent: bool = False
    number: int | None = None


class Nvidia:
    """Asks the driver; of a divided device (MIG) for its parts."""

    def __init__(self) -> None:
        self._nvml: Any = None

    def read(self) -> Found:
        """All devices. One that fails does not hide the others."""
        try:
            nvml = import_module("pynvml")
        except ImportError:
            return Found((), _NO_BINDING, absent=True, number=0)
        try:
            if self._nvml is None:
                nvml.nvmlInit()
                self._nvml = nvml  # stays open: where nothing else has it open, opening it takes a second
            indices = range(nvml.nvmlDeviceGetCount())
        except nvml.NVMLError as error:
            self._close()
            nobody = (nvml.NVMLError_LibraryNotFound, nvml.NVMLError_DriverNotLoaded)
            absent = isinstance(error, nobody)
            return Found((), f"NVIDIA's driver: {error}", absent, number=0 if absent else None)
        return self._read(indices)

    def _read(self, indices: range) -> Found:
        nvml = self._nvml
        found: list[Memory] = []
        problems, number = [], len(indices)
        for index in indices:
            try:
                found += _devices(nvml, index)
            except nvml.NVMLError as error:
                problems.append(f"NVIDIA's driver, of GPU {index}: {error}")
                number -= isinstance(error, nvml.NVMLError_GpuIsLost)
        if problems:
            self._close()  # after a reset or a new driver only a new beginning helps
        return Found(tuple(found), "; ".join(problems), number=number)

    def _close(self) -> None:
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlShutdown()


def _devices(nvml: Any, index: int) -> Iterator[Memory]:
    """One device, or its parts; none of one without memory of its own."""
    whole = nvml.nvmlDeviceGetHandleByIndex(index)
    for handle in _parts(nvml, whole) or [whole]:
        with contextlib.suppress(nvml.NVMLError_NotSupported):
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
            yield Memory(uuid, name, memory.total, memory.used, _holders(nvml, handle))


def _parts(nvml: Any, whole: Any) -> list[Any]:
    """Of a device that is divided; none of any other."""
    try:
        most = nvml.nvmlDeviceGetMaxMigDeviceCount(whole)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
        return []
    found = []
    for index in range(most):
        with contextlib.suppress(nvml.NVMLError_NotFound, nvml.NVMLError_InvalidArgument):
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, index))
    return found


def _holders(nvml: Any, handle: Any) -> dict[int, int | None]:
    used: dict[int, int | None] = {}
    for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        try:
            for process in ask(handle):
                if used.get(process.pid) is None:
                    used[process.pid] = process.usedGpuMemory
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission):
            continue  # parts of a device tell no processes
        except (nvml.NVMLError_FunctionNotFound, nvml.NVMLLibraryMismatchError):
            continue  # nor does a driver that is much older than its binding
    return used
