"""The folders of one call: where its files go in, and where it works."""

from __future__ import annotations

import errno
import os
from base64 import b64decode
from pathlib import Path, PurePosixPath

from executor_runner.removal import empty_folder, remove_tree

WIPE_SECONDS = 1.0
"""A call waits for what the one before it left to be deleted; more than that takes a new sandbox."""


class Workspace:
    """``work`` is the working directory, ``home`` HOME, ``tmp`` TMPDIR; the call's source lies beside them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "work"
        self.home = root / "home"
        self.tmp = root / "tmp"
        self._made: dict[Path, os.stat_result] = {}

    def create(self) -> None:
        """Make the folders. Raises ``OSError``."""
        self.root.mkdir(parents=True, exist_ok=True)
        for folder in (self.work, self.home, self.tmp):
            folder.mkdir(exist_ok=True)
        self._made = {folder: folder.lstat() for folder in (self.root, self.work, self.home, self.tmp)}

    def renew(self) -> None:
        """Leave nothing of a call and make the folders again. Raises ``OSError`` if something would stay."""
        if self.root not in self._made or not os.path.samestat(self._made[self.root], self.root.lstat()):
            raise OSError(errno.ENOTDIR, "is another folder now", str(self.root))
        untouched = {folder for folder in (self.work, self.home, self.tmp) if self._is_untouched(folder)}
        empty_folder(self.root, WIPE_SECONDS, frozenset(folder.name for folder in untouched))
        for folder in {self.work, self.home, self.tmp} - untouched:
            folder.mkdir()
            self._made[folder] = folder.lstat()

    def _is_untouched(self, folder: Path) -> bool:
        """Whether it is the folder that we made, never changed and empty: mostly so, and cheaper than a new one."""
        try:
            before, now = self._made[folder], folder.lstat()
            same = (now.st_dev, now.st_ino, now.st_mode, now.st_ctime_ns) == (
                before.st_dev,
                before.st_ino,
                before.st_mode,
                before.st_ctime_ns,
            )
            return same and not os.listdir(folder)
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
