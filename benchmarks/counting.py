"""Processes counted by psutil, to hold a monitor's figures against: for each line of input, a line of JSON."""

from __future__ import annotations

import contextlib
import json
import os
import sys

import psutil


def main() -> None:
    """``counting.py PORT``: sockets in CLOSE_WAIT are those to this port of the loopback."""
    port = int(sys.argv[1])
    for _ in sys.stdin:
        print(json.dumps(_count(port)), flush=True)


def _count(port: int) -> dict[str, object]:
    found = [process.info for process in psutil.process_iter(["pid", "ppid", "name", "status", "create_time"])]
    zombies = [process for process in found if process["status"] == psutil.STATUS_ZOMBIE]
    stuck = [process for process in found if process["status"] == psutil.STATUS_DISK_SLEEP]
    held = [(_descriptors(process["pid"]), process["name"]) for process in found]
    return {
        "processes": len(found),
        "zombies": len(zombies),
        "d_state": len(stuck),
        "orphans": sum(process["ppid"] == 1 and _session(process["pid"]) != process["pid"] for process in found),
        "descriptors": sum(number for number, _ in held),
        "most_descriptors": max(held),
        "close_wait": sum(
            connection.status == psutil.CONN_CLOSE_WAIT and connection.raddr.port == port
            for connection in psutil.net_connections("tcp4")
            if connection.raddr
        ),
        "zombies_by_parent": _by_parent(zombies, {process["pid"]: process["name"] for process in found}),
        "lasting": [f"{process['status']} {process['pid']} {process['create_time']}" for process in [*zombies, *stuck]],
    }


def _by_parent(zombies: list[dict[str, int]], names: dict[int, str]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for zombie in zombies:
        name = names.get(zombie["ppid"], "unknown")
        counted[name] = counted.get(name, 0) + 1
    return counted


def _descriptors(pid: int) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - thousands of times
    return 0


def _session(pid: int) -> int:
    with contextlib.suppress(OSError):
        return os.getsid(pid)
    return 0


if __name__ == "__main__":
    main()
