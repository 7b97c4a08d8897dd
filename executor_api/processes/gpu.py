"""GPUs of this machine: how full their memory is, and how much of it belongs to processes that have ended.

A driver in trouble may answer late or never: ask it in a thread, or a process, that nothing waits for.
``python -m executor_api.processes.gpu [PROC]`` prints one reading as JSON, or the error that it failed with.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from executor_api.processes.amd import read_amd
from executor_api.processes.gpu_memory import Memory
from executor_api.processes.nvidia import Found, Nvidia
from executor_api.processes.process_table import PROC, STUCK, ZOMBIE, read_process

SYS = "/sys"
_FIRST_OF_KERNEL = "kthreadd"


class HolderState(StrEnum):
    """What a process that holds memory of a GPU is by now."""

    ALIVE = "alive"
    STUCK = "stuck"
    """In D state: its memory can't be freed."""
    ZOMBIE = "zombie"
    GONE = "gone"
    UNKNOWN = "unknown"
    """The driver may tell pids of the machine, and from a container of its own pids nobody sees whose they are."""


class Holder(NamedTuple):
    """Who holds how much. ``used_bytes`` is None where the driver does not tell."""

    pid: int
    state: HolderState
    used_bytes: int | None

    @property
    def has_ended(self) -> bool:
        """Whether nobody uses what it holds any more."""
        return self.state in {HolderState.GONE, HolderState.ZOMBIE}


class Device(NamedTuple):
    """One GPU, or a part of one that is divided (MIG). ``uuid``: of AMD's, the address on the bus."""

    uuid: str
    name: str
    total_bytes: int
    used_bytes: int
    holders: tuple[Holder, ...]

    @property
    def lost_bytes(self) -> int:
        """Held for processes that have ended: gone or zombies. 0 as well where the driver does not tell how much."""
        return sum(holder.used_bytes or 0 for holder in self.holders if holder.has_ended)

    @property
    def ended_holders(self) -> int:
        """How many of those the driver lists."""
        return sum(holder.has_ended for holder in self.holders)


class GpuReading(NamedTuple):
    """What was found. ``problem`` says what could not be read, or why there are no devices; "" if all is well."""

    devices: tuple[Device, ...]
    problem: str = ""
    absent: bool = False
    """There is nobody to ask: no driver, or no library or binding of it."""
    number: int | None = None
    """Whole GPUs there are, of which none is lost; None if a driver does not tell."""
    uncounted: int = 0
    """More that the kernel's part of NVIDIA's driver has, and its library does not, or tells to be lost."""


class Gpus:
    """Reads all devices; without GPU, driver or binding each reading says so, and costs next to nothing.

    ``proc`` and ``sysfs``: the file systems of the machine's processes and devices.
    """

    def __init__(self, proc: str = PROC, sysfs: str = SYS) -> None:
        self._proc, self._sysfs = proc, sysfs
        self._nvidia = Nvidia()

    @property
    def has_driver(self) -> bool:
        """Whether the kernel has NVIDIA's driver loaded: then there should be a device to read."""
        return Path(self._proc, "driver/nvidia").exists()

    def read(self) -> GpuReading:
        """Read them now. A device that can't be read is a problem, not an error."""
        first = self._look()
        ended = {(device.uuid, holder.pid) for device, holder in _ended(first)}
        if not ended:
            return first
        again = self._look()  # one may have ended while we looked, and its memory is on its way
        return again._replace(devices=tuple(_without_news(device, ended) for device in again.devices))

    def _look(self) -> GpuReading:
        nvidia, amd, sees_all = self._nvidia.read(), list(read_amd(self._sysfs)), self._sees_the_machine()
        devices = tuple(self._device(memory, sees_all=sees_all) for memory in (*nvidia.devices, *amd))
        return GpuReading(
            devices,
            problem="" if nvidia.absent and devices else nvidia.problem,
            absent=nvidia.absent and not devices,
            number=None if nvidia.number is None else nvidia.number + len(amd),
            uncounted=self._uncounted(nvidia) if sees_all else 0,  # a container may be shown more than it was given
        )

    def _uncounted(self, nvidia: Found) -> int:
        if nvidia.absent or nvidia.number is None:
            return 0
        bound = sum(1 for _ in Path(self._proc, "driver/nvidia/gpus").glob("*"))
        return max(0, bound - nvidia.number)

    def _device(self, memory: Memory, *, sees_all: bool) -> Device:
        holders = tuple(
            Holder(pid, self._state(pid) if sees_all else HolderState.UNKNOWN, size)
            for pid, size in memory.holders.items()
        )
        return Device(memory.uuid, memory.name, memory.total_bytes, memory.used_bytes, holders)

    def _state(self, pid: int) -> HolderState:
        process = read_process(pid, self._proc)
        if process is None:
            return HolderState.GONE
        if process.state == ZOMBIE and process.threads > 1:
            return HolderState.ALIVE  # only its first thread has ended
        return {ZOMBIE: HolderState.ZOMBIE, STUCK: HolderState.STUCK}.get(process.state, HolderState.ALIVE)

    def _sees_the_machine(self) -> bool:
        """The kernel's own threads are in the machine's PID namespace only."""
        kernel = read_process(2, self._proc)
        return kernel is not None and kernel.name == _FIRST_OF_KERNEL


def _ended(reading: GpuReading) -> Iterator[tuple[Device, Holder]]:
    for device in reading.devices:
        yield from ((device, holder) for holder in device.holders if holder.has_ended)


def _without_news(device: Device, ended: set[tuple[str, int]]) -> Device:
    """Without those who have ended and were not yet seen so."""
    holders = (holder for holder in device.holders if not holder.has_ended or (device.uuid, holder.pid) in ended)
    return device._replace(holders=tuple(holders))


def main() -> None:
    """Print a reading. An error is printed as well, for who reads the answer only, and raised."""
    try:
        reading = Gpus(*sys.argv[1:]).read()
    except Exception as error:
        sys.stdout.write(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        raise
    devices = [device._asdict() | {"lost_bytes": device.lost_bytes} for device in reading.devices]
    told = {"devices": devices, "problem": reading.problem, "uncounted": reading.uncounted}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
