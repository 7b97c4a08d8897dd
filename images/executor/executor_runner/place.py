"""What a call finds where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from executor_runner.cgroup import MemoryGroup
from executor_runner.gpu import Gpus
from executor_runner.process import Reaper, Tree
from executor_runner.workspace import Workspace

_OURS = ("EXECUTOR_", "KUBERNETES_")


class Place(NamedTuple):
    """The sandbox as the runner sees it."""

    workspace: Workspace
    tree: Tree
    reaper: Reaper
    group: MemoryGroup | None  # the control group that the kernel enforces the memory limit with
    gpus: Gpus | None = None


def child_environment(environ: Mapping[str, str], workspace: Workspace) -> dict[str, str]:
    """What every child has: the image's variables, not the runner's own, its folders, and output not held back."""
    folders = {"HOME": str(workspace.home), "TMPDIR": str(workspace.tmp)}
    inherited = {name: value for name, value in environ.items() if not name.startswith(_OURS)}
    return {"LANG": "C.UTF-8", **inherited, "PYTHONUNBUFFERED": "1", **folders}
