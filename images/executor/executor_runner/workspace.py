"""The folders of one call: where its files go in, and where it works."""

from __future__ import annotations

import contextlib
import errno
import os
from base64 import b64decode
from pathlib import Path, PurePosixPath

from executor_runner.removal import empty_folder, remove_tree
from executor_runner.traits import Traits, traits


class Workspace:
    """``work`` is the working directory, ``home`` HOME, ``tmp`` TMPDIR; the call's source lies beside them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "work"
        self.home = root / "home"
        self.tmp = root / "tmp"
        self._folders = (self.work, self.home, self.tmp)
        self._made: dict[Path, Traits] = {}

    def create(self) -> None:
        """Make the folders. Raises ``OSError``."""
        for folder in (self.root, *self._folders):
            folder.mkdir(parents=True, exist_ok=True)

    def remember(self) -> None:
        """Note what `renew` has to bring back, before the first call."""
        with contextlib.suppress(OSError):  # of a folder that is not there: then there is nothing to renew
            self._made = {folder: traits(folder) for folder in (self.root, *self._folders)}

    def renew(self, until: float) -> None:
        """Leave nothing of a call but the folders, as they were made, by that instant of the monotonic clock.

        To empty a folder takes half the time of a new one, for which a file system may have to look for an inode.
        Raises ``OSError`` if something would stay.
        """
        if self.root not in self._made or not self._made[self.root].are_of(self.root.lstat()):
            raise OSError(errno.ENOTDIR, "is another folder now", str(self.root))
        kept = {folder for folder in self._folders if self._made[folder].hold(folder)}
        empty_folder(self.root, until, frozenset(folder.name for folder in kept))
        for folder in self._folders:
            if folder in kept:
                empty_folder(folder, until)
                os.utime(folder)  # else an empty one may have times of a call's making
                if not self._made[folder].outgrown_by(folder):
                    continue
                folder.rmdir()
            folder.mkdir()
            self._made[folder] = traits(folder)
        os.utime(self.root)
        if not self._made[self.root].hold(self.root) or self._made[self.root].outgrown_by(self.root):
            raise OSError(errno.EINVAL, "is not as it was made", str(self.root))

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
