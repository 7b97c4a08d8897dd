"""Limits of pids that cgroups set: a service of systemd, a pod, a login. Version 1 and 2."""

from __future__ import annotations

import os
import re
from collections import deque
from pathlib import Path, PurePosixPath

from executor_api.processes.pressure import Usage
from executor_api.processes.process_table import PROC

CGROUPS = "/sys/fs/cgroup"
_MOST = 1000
_CHANGING = re.compile(
    r"((?<=pod)|(?<![0-9a-z]))[0-9a-f]{8}[-_0-9a-f]{20,}"  # ids of pods and containers
    r"|(?<=/run-)(r[0-9a-f]{32}|u[0-9]+|p[0-9]+-i[0-9]+)(?=\.)"  # what systemd-run makes
    r"|(?<=/session-)c?[0-9]+(?=\.scope)"
    r"|(?<=@)[^/]+(?=\.(service|scope|slice)(/|$))"  # one of a template: a connection to sshd
)


def pids_root(cgroups: str = CGROUPS) -> str:
    """Where the files of the pids controller begin."""
    version_2 = Path(cgroups, "cgroup.controllers").exists()
    return cgroups if version_2 else f"{cgroups}/pids"


def list_cgroups(root: str, most: int = _MOST) -> list[str]:
    """Their folders, from the top level down; of more than ``most``, the deepest are left out."""
    found, unread = [root], deque([root])
    while unread and len(found) < most:
        try:
            with os.scandir(unread.popleft()) as entries:
                below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # it was removed meanwhile
        found += below
        unread += below
    return found[:most]


def own_cgroups(root: str, pid: int, proc: str = PROC) -> list[str]:
    """The folders of this process' cgroup and of those above it, as far as they can be seen from here."""
    try:
        lines = Path(proc, str(pid), "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    own = PurePosixPath(found.get("pids", found.get("", "/")).lstrip("/"))
    return [folder for folder in (os.path.join(root, step) for step in (own, *own.parents)) if Path(folder).is_dir()]  # noqa: PTH118


def read_pids(folder: str) -> Usage | None:
    """Tasks of a cgroup and of those below it against its limit; None if it has none or is gone."""
    try:
        limit = Path(folder, "pids.max").read_bytes().strip()
        return None if limit == b"max" else Usage(int(Path(folder, "pids.current").read_bytes()), int(limit))
    except (OSError, ValueError):
        return None


def cgroup_name(root: str, folder: str) -> str:
    """What to call it: its path, with ``*`` for ids of which there is no end (pods, containers, systemd's units)."""
    path = os.path.relpath(folder, root)
    return "/" if path == "." else _CHANGING.sub("*", f"/{path}")
