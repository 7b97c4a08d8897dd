"""What a call can change about a folder, beside what it holds."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import NamedTuple

from executor_runner.removal import AS_FOLDER

_SMALL = 4096
"""A folder of so few bytes is quick to read. Some file systems never make one smaller again that has held much."""

# linux/fs.h, for x86-64 and arm64; elsewhere they are refused, and what they tell does not count.
_FS_IOC_GETFLAGS, _FLAGS_BYTES = 0x80086601, 8
_FS_IOC_FSGETXATTR, _FSXATTR_BYTES = 0x801C581F, 28
_EXTENTS = slice(8, 12)
"""Of what the second tells: a count that goes with what the folder holds."""


class Traits(NamedTuple):
    """Those of one folder."""

    device: int
    inode: int
    mode: int
    owner: int
    group: int
    size: int
    attributes: dict[str, bytes | None]  # extended ones, among them access control lists; None: not for us to read
    flags: bytes  # those of chattr, and what XFS has beside them

    def are_of(self, found: os.stat_result) -> bool:
        """Whether it is that very folder, whatever was made of it."""
        return (found.st_dev, found.st_ino) == (self.device, self.inode)

    def hold(self, folder: Path) -> bool:
        """Whether all but the size is the same."""
        try:
            descriptor = os.open(folder, AS_FOLDER)
        except OSError:
            return False
        try:
            found = os.fstat(descriptor)
            return (
                self.are_of(found)
                and (found.st_mode, found.st_uid, found.st_gid) == (self.mode, self.owner, self.group)
                and self.attributes.keys() == set(_attribute_names(descriptor))  # first, for values may be large
                and self.attributes == _attributes(descriptor)
                and self.flags == _flags(descriptor)
            )
        finally:
            os.close(descriptor)

    def outgrown_by(self, folder: Path) -> bool:
        """Whether an empty folder is slower to read than it was."""
        return folder.lstat().st_size > max(self.size, _SMALL)


def traits(folder: Path) -> Traits:
    """Those that it has now. Raises ``OSError``, also for what is no folder."""
    descriptor = os.open(folder, AS_FOLDER)
    try:
        found = os.fstat(descriptor)
        return Traits(
            found.st_dev,
            found.st_ino,
            found.st_mode,
            found.st_uid,
            found.st_gid,
            found.st_size,
            _attributes(descriptor),
            _flags(descriptor),
        )
    finally:
        os.close(descriptor)


def _attribute_names(descriptor: int) -> list[str]:
    """None where the file system, the system or its Python has none."""
    with contextlib.suppress(OSError, AttributeError):
        return os.listxattr(descriptor)
    return []


def _attributes(descriptor: int) -> dict[str, bytes | None]:
    found: dict[str, bytes | None] = {}
    for name in _attribute_names(descriptor):
        found[name] = None
        with contextlib.suppress(OSError):
            found[name] = os.getxattr(descriptor, name)
    return found


def _flags(descriptor: int) -> bytes:
    """Empty where the file system has none."""
    flags = bytearray()
    with contextlib.suppress(OSError):
        flags += fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, bytes(_FLAGS_BYTES))
    with contextlib.suppress(OSError):
        more = bytearray(fcntl.ioctl(descriptor, _FS_IOC_FSGETXATTR, bytes(_FSXATTR_BYTES)))
        del more[_EXTENTS]
        flags += more
    return bytes(flags)
