"""Who holds GPUs: by the device files that are open, and by what the drivers tell of memory."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from executor_api.processes.process_table import PROC
from executor_api.processes.triage import sockets
from executor_api.processes.triage.details import Details
from executor_api.processes.triage.facts import GpuHolder, LostMemory

_SCAN_SECONDS = 3.0
_DRIVER_SECONDS = 6.0
"""So long drivers have to answer, from the start of the look on. The first question of all takes NVIDIA's a second or
two where nothing keeps it awake."""
_BURIAL_SECONDS, _PAUSE = 0.5, 0.002
_COMPUTING = Path("/sys/class/kfd/kfd/proc")
"""Where AMD's driver tells who computes."""


class GpuSight(NamedTuple):
    """What was seen of them. ``mute``: a driver has not answered."""

    holders: list[GpuHolder]
    lost: list[LostMemory]
    remarks: list[str]
    mute: bool = False


def look_at_gpus(pids: Sequence[int], details: Details) -> GpuSight:
    """Look; where no driver is loaded nobody is asked, and nothing started."""
    nvidia = Path(details.proc, "driver/nvidia").exists()
    if not nvidia and not (details.proc == PROC and _COMPUTING.is_dir()):
        return GpuSight([], [], [])
    with _Question(details.proc) as question:  # it is answered meanwhile
        devices, remarks = _open_devices(pids, details) if nvidia else ({}, [])
        reading = question.answer()
    if reading is None:
        return GpuSight(
            [GpuHolder(details.identity(pid), links) for pid, links in devices.items()], [], remarks, mute=True
        )
    if reading["problem"]:
        remarks.append(f"GPU memory: {reading['problem']}")
    return GpuSight(_holders(devices, reading, details), list(_lost(reading, details)), remarks + _unknown(reading))


def _open_devices(pids: Sequence[int], details: Details) -> tuple[dict[int, list[str]], list[str]]:
    """Device files of NVIDIA's driver, by who has them open."""
    deadline = time.monotonic() + _SCAN_SECONDS
    found: dict[int, list[str]] = {}
    unread = 0
    for number, pid in enumerate(pids):
        if time.monotonic() > deadline:
            return found, [f"GPU holders: {len(pids) - number} processes were not looked at for want of time"]
        try:
            links = set(sockets.read_links(f"{details.proc}/{pid}"))
        except OSError as error:
            unread += isinstance(error, PermissionError)
            continue
        devices = sorted(link for link in links if link.startswith("/dev/nvidia"))
        if devices:
            found[pid] = devices
    return found, [f"GPU holders: {unread} processes of others can't be looked into; root can"] if unread else []


def _holders(devices: dict[int, list[str]], reading: dict[str, Any], details: Details) -> list[GpuHolder]:
    """Who lives, those with most memory first."""
    used: dict[int, int] = {}
    for pid, state, size in _told(reading):
        if state in {"alive", "stuck"}:
            used[pid] = used.get(pid, 0) + (size or 0)
    pids = sorted({**devices, **used}, key=lambda pid: -used.get(pid, 0))
    return [GpuHolder(details.identity(pid), devices.get(pid, []), used.get(pid) or None) for pid in pids]


def _lost(reading: dict[str, Any], details: Details) -> Iterator[LostMemory]:
    for device in reading["devices"]:
        gone = [pid for pid, state, _ in device["holders"] if state == "gone"]
        zombies = [details.identity(pid) for pid, state, _ in device["holders"] if state == "zombie"]
        if gone or zombies:
            parents = [details.identity(zombie.parent) for zombie in zombies]
            yield LostMemory(device["uuid"], device["name"], device["lost_bytes"], gone, zombies, parents)


def _unknown(reading: dict[str, Any]) -> list[str]:
    unknown = {pid for pid, state, _ in _told(reading) if state == "unknown"}
    told = "GPU holders: the driver lists {}, which only the machine itself can tell who they are: look there"
    return [told.format(f"pid {', '.join(map(str, sorted(unknown)))}")] if unknown else []


def _told(reading: dict[str, Any]) -> Iterator[tuple[int, str, int | None]]:
    for device in reading["devices"]:
        yield from device["holders"]


class _Question:
    """A process of its own asks the drivers: who has asked one in trouble may never end."""

    def __init__(self, proc: str) -> None:
        self._deadline = time.monotonic() + _DRIVER_SECONDS
        self._answer, theirs = os.pipe()
        self._pid: int | None = None
        command = [sys.executable, "-P", "-m", "executor_api.processes.gpu", proc]
        nowhere = ((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 2))
        with suppress(OSError):  # no process can be started
            self._pid = os.posix_spawn(
                sys.executable, command, os.environ, file_actions=[*nowhere, (os.POSIX_SPAWN_DUP2, theirs, 1)]
            )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._answer)
        if self._pid is None:
            return
        os.kill(self._pid, signal.SIGKILL)
        deadline = time.monotonic() + _BURIAL_SECONDS  # one in D state is left to init
        while os.waitpid(self._pid, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
            time.sleep(_PAUSE)

    def answer(self) -> dict[str, Any] | None:
        """What it says; None if that does not come."""
        import json  # noqa: PLC0415 - only where there are GPUs

        if self._pid is None:
            return {"devices": [], "problem": "no process could be started to ask the driver"}
        text = b""
        while select.select([self._answer], [], [], max(0.0, self._deadline - time.monotonic()))[0]:
            piece = os.read(self._answer, 1 << 16)
            if not piece:
                break
            text += piece
        with suppress(ValueError):
            found: dict[str, Any] = json.loads(text)
            return found
        return None
