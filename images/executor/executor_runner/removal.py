"""Deletes what a call left, whatever that is: folders deeper than Python recurses, or closed to their owner."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import time
from pathlib import Path

AS_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(root: Path) -> None:
    """Delete a folder and everything below it; what can't be deleted stays."""
    with contextlib.suppress(OSError):  # gone, or no folder
        _remove_below(os.open(root, AS_FOLDER), math.inf)
        root.rmdir()


def empty_folder(root: Path, until: float, keep: frozenset[str] = frozenset()) -> None:
    """Delete everything below a folder but what lies right in it and is to be kept.

    Raises ``OSError`` if something else is left at that instant of the monotonic clock.
    """
    _remove_below(os.open(root, AS_FOLDER), until, keep)
    if not keep.issuperset(os.listdir(root)):
        raise OSError(errno.ENOTEMPTY, "can't be emptied", str(root))


def _remove_below(here: int, until: float, keep: frozenset[str] = frozenset()) -> None:
    """Delete what lies in the folder behind a descriptor, which is used up.

    It moves down and up: neither recursion, nor the length of a path, nor open files set a limit.
    """
    path: list[str] = []
    levels = [_empty(here, until, keep)]  # the folders still to be entered, at each depth
    while levels and time.monotonic() < until:
        if levels[-1]:
            below = _enter(here, levels[-1].pop(), path)
            if below is not None:
                here = below
                levels.append(_empty(here, until))
        else:
            levels.pop()
            here = _leave(here, path)
    os.close(here)


def _empty(here: int, until: float, keep: frozenset[str] = frozenset()) -> list[str]:
    """Delete all files and empty folders of a folder and return the names of its other folders."""
    folders = []
    with contextlib.suppress(OSError), os.scandir(here) as entries:
        for entry in entries:
            if time.monotonic() >= until:
                break
            if entry.name in keep:
                continue
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    if not _removed(here, entry.name):
                        folders.append(entry.name)
                else:
                    os.unlink(entry.name, dir_fd=here)
    return folders


def _removed(here: int, name: str) -> bool:
    try:
        os.rmdir(name, dir_fd=here)
    except OSError:
        return False
    return True


def _enter(here: int, name: str, path: list[str]) -> int | None:
    """Go down; None if that can't be."""
    try:
        with contextlib.suppress(OSError):
            os.chmod(name, 0o700, dir_fd=here)
        below = os.open(name, AS_FOLDER, dir_fd=here)
    except OSError:
        return None
    os.close(here)
    path.append(name)
    return below


def _leave(here: int, path: list[str]) -> int:
    """Go up and delete the folder that was left."""
    if not path:
        return here
    above = os.open("..", AS_FOLDER, dir_fd=here)
    os.close(here)
    with contextlib.suppress(OSError):
        os.rmdir(path.pop(), dir_fd=above)
    return above
