"""Deletes what a call left, whatever that is: folders deeper than Python recurses, or closed to their owner."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(root: Path) -> None:
    """Delete a folder and everything below it; what can't be deleted stays.

    One descriptor moves down and up: neither recursion, nor the length of a path, nor open files set a limit.
    """
    try:
        here = os.open(root, _FOLDER)
    except OSError:
        return  # gone, or no folder
    path: list[str] = []
    levels = [_empty(here)]  # the folders still to be entered, at each depth
    while levels:
        if levels[-1]:
            below = _enter(here, levels[-1].pop(), path)
            if below is not None:
                here = below
                levels.append(_empty(here))
        else:
            levels.pop()
            here = _leave(here, path)
    os.close(here)
    with contextlib.suppress(OSError):
        root.rmdir()


def _empty(here: int) -> list[str]:
    """Delete all files of a folder and return the names of its folders."""
    folders = []
    with contextlib.suppress(OSError), os.scandir(here) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                else:
                    os.unlink(entry.name, dir_fd=here)
    return folders


def _enter(here: int, name: str, path: list[str]) -> int | None:
    """Go down; None if that can't be."""
    try:
        with contextlib.suppress(OSError):
            os.chmod(name, 0o700, dir_fd=here)
        below = os.open(name, _FOLDER, dir_fd=here)
    except OSError:
        return None
    os.close(here)
    path.append(name)
    return below


def _leave(here: int, path: list[str]) -> int:
    """Go up and delete the folder that was left."""
    if not path:
        return here
    above = os.open("..", _FOLDER, dir_fd=here)
    os.close(here)
    with contextlib.suppress(OSError):
        os.rmdir(path.pop(), dir_fd=above)
    return above
