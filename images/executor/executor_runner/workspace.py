"""The folders of one call: where its files go in, and where it works."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from base64 import b64decode
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from executor_runner.removal import AS_FOLDER, empty_folder, remove_tree

WIPE_SECONDS = 1.0
"""A call waits for what the one before it left to be deleted; more than that takes a new sandbox."""
_FS_IOC_GETFLAGS = 0x80086601  # linux/fs.h, for x86-64 and arm64; elsewhere it is refused, and flags do not count


class Workspace:
    """``work`` is the working directory, ``home`` HOME, ``tmp`` TMPDIR; the call's source lies beside them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "work"
        self.home = root / "home"
        self.tmp = root / "tmp"
        self._folders = (self.work, self.home, self.tmp)
        self._made: dict[Path, _Traits] = {}

    def create(self) -> None:
        """Make the folders. Raises ``OSError``."""
        for folder in (self.root, *self._folders):
            folder.mkdir(parents=True, exist_ok=True)

    def remember(self) -> None:
        """Note what `renew` has to bring back, before the first call. Linux only."""
        with contextlib.suppress(OSError):  # what can't be told can't be brought back
            self._made = {folder: _traits(folder) for folder in (self.root, *self._folders)}

    def renew(self) -> None:
        """Leave nothing of a call but the folders, as they were made. Raises ``OSError`` if something would stay.

        To empty a folder takes half the time of a new one, which a file system may have to look for an inode for.
        """
        if self.root not in self._made or not self._made[self.root].are_of(self.root.lstat()):
            raise OSError(errno.ENOTDIR, "is another folder now", str(self.root))
        kept = {folder for folder in self._folders if self._is_as_made(folder)}
        empty_folder(self.root, WIPE_SECONDS, frozenset(folder.name for folder in kept))
        for folder in self._folders:
            if folder not in kept:
                folder.mkdir()
                self._made[folder] = _traits(folder)
            elif os.listdir(folder):
                empty_folder(folder, WIPE_SECONDS)
        if not self._is_as_made(self.root):
            raise OSError(errno.EINVAL, "is not as it was made", str(self.root))

    def _is_as_made(self, folder: Path) -> bool:
        try:
            return self._made[folder] == _traits(folder)
        except OSError:
            return False

    def write_source(self, name: str, text: str) -> Path:
        """Write the call's source; returns its path. Raises ``OSError``."""
        path = self.root / name
        path.write_bytes(text.encode())
        return path

    def write_files(self, files: dict[str, str]) -> None:
        """Write relative path -> base64 below the working directory. Raises ``OSError`` and ``ValueError``."""
        for name, content in files.items():
            relative = PurePosixPath(name)
            if relative.is_absolute() or ".." in relative.parts:
                raise ValueError(f"{name!r} leads out of the working directory")
            path = self.work / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b64decode(content))

    def remove(self) -> None:
        """Delete it all; what can't be deleted stays."""
        remove_tree(self.root)


class _Traits(NamedTuple):
    """What a call can change about a folder, beside what it holds."""

    device: int
    inode: int
    mode: int
    owner: int
    group: int
    size: int  # some file systems never make it smaller again, and read the folder the slower
    attributes: dict[str, bytes]  # extended ones, among them access control lists
    flags: bytes  # those of chattr

    def are_of(self, found: os.stat_result) -> bool:
        """Whether it is that very folder, whatever was made of it."""
        return (found.st_dev, found.st_ino) == (self.device, self.inode)


def _traits(folder: Path) -> _Traits:
    """Raises ``OSError``, also for what is no folder."""
    descriptor = os.open(folder, AS_FOLDER)
    try:
        found = os.fstat(descriptor)
        return _Traits(
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


def _attributes(descriptor: int) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(descriptor, name) for name in os.listxattr(descriptor)}
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return {}


def _flags(descriptor: int) -> bytes:
    try:
        return fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, bytes(8))
    except OSError:
        return b""  # this file system has none
