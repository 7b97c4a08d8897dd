"""Who holds GPUs: by the device files that are open, and by what the drivers tell of memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from executor_api.processes.process_table import PROC
from executor_api.processes.triage import sockets
from executor_api.processes.triage.details import Details
from executor_api.processes.triage.facts import GpuHolder, LostMemory, Unanswered
from executor_api.processes.triage.gpu_question import GpuQuestion

_SCAN_SECONDS = 3.0
_COMPUTING = Path("/sys/class/kfd/kfd/proc")
"""Where AMD's driver tells who computes."""


class GpuSight(NamedTuple):
    """What was seen of them. ``unanswered``: drivers were asked, and there is no answer.

    ``uncounted``: as in `executor_api.processes.gpu.GpuReading`.
    """

    holders: list[GpuHolder]
    lost: list[LostMemory]
    remarks: list[str]
    unanswered: Unanswered | None = None
    uncounted: int = 0


def look_at_gpus(pids: Sequence[int], details: Details) -> GpuSight:
    """Look; where no driver is loaded nobody is asked, and nothing started."""
    nvidia = Path(details.proc, "driver/nvidia").exists()
    if not nvidia and not (details.proc == PROC and _COMPUTING.is_dir()):
        return GpuSight([], [], [])
    with GpuQuestion(details.proc) as question:  # it is answered meanwhile
        devices, remarks = _open_devices(pids, details) if nvidia else ({}, [])
        reading = question.answer()
    if isinstance(reading, Unanswered):
        holders = [GpuHolder(details.identity(pid), links) for pid, links in devices.items()]
        return GpuSight(holders, [], remarks, unanswered=reading)
    if reading["problem"]:
        remarks.append(f"GPU memory: {reading['problem']}")
    remarks += _unknown(reading)
    holders, lost = _holders(devices, reading, details), list(_lost(reading, details))
    return GpuSight(holders, lost, remarks, uncounted=reading["uncounted"])


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
