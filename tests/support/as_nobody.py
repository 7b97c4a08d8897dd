"""Runs the script on standard input as a user without privileges: `python as_nobody.py < script`.

Root becomes uid 65534, and in a mount namespace of its own makes sure that this user can reach the interpreter.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from executor_runner import linux

NOBODY = 65534
_MS_BIND = 0x1000 | 0x4000  # with what is mounted below


def _open_the_way(needed: set[Path]) -> None:
    """Cover each closed folder above what is needed by one that holds only that."""
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount(b"none", b"/", None, linux.MS_REC_PRIVATE)
    closed = {
        next((folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001), None): path
        for path in needed
    }
    for folder, path in closed.items():
        if folder is not None:
            aside = tempfile.mkdtemp()
            linux.mount(bytes(path), aside.encode(), None, _MS_BIND)
            linux.mount(b"tmpfs", bytes(folder), b"tmpfs", 0)
            folder.chmod(0o755)
            path.mkdir(parents=True)
            linux.mount(aside.encode(), bytes(path), None, _MS_BIND)


def main() -> None:
    """Give up root, then run."""
    script = sys.stdin.read()
    if os.geteuid() == 0:
        _open_the_way({Path(sys.base_prefix)})
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        linux.set_dumpable(dumpable=True)  # changing the user turned it off, and with it our own /proc files
    exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})  # noqa: S102 - that is what it is for


main()
