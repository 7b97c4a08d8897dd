"""The folders of one call: where its files go in, where it works, and where its artifacts come out."""

from __future__ import annotations

import glob
import os
import shutil
import stat
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file to bring back, or why it is not."""

    path: str
    content: bytes
    skipped: str | None = None


class Workspace:
    """``work`` is the working directory, ``home`` HOME, ``tmp`` TMPDIR; the call's source lies beside them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "work"
        self.home = root / "home"
        self.tmp = root / "tmp"

    def create(self) -> None:
        """Make the folders. Raises ``OSError``."""
        for folder in (self.work, self.home, self.tmp):
            folder.mkdir(parents=True, exist_ok=True)

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

    def artifacts(self, patterns: list[str], most_bytes: int) -> Iterator[Artifact]:
        """Yield the files that match, each once, until ``most_bytes`` are used up; the rest is skipped by name."""
        left = most_bytes
        for name in sorted({name for pattern in patterns for name in self._matches(pattern)}):
            artifact = self._read(name, left)
            if artifact is not None:
                left -= len(artifact.content)
                yield artifact

    def remove(self) -> None:
        """Delete it all; what can't be deleted stays."""
        shutil.rmtree(self.root, ignore_errors=True)

    def _matches(self, pattern: str) -> list[str]:
        return glob.glob(pattern, root_dir=self.work, recursive=True, include_hidden=True)  # noqa: PTH207 - hidden files

    def _read(self, name: str, left: int) -> Artifact | None:
        """Read one regular file. A link must not lead out: the runner may see what the call may not."""
        path = Path(os.path.realpath(self.work / name))
        if not path.is_relative_to(os.path.realpath(self.work)):
            return Artifact(name, b"", "leads out of the working directory")
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            return Artifact(name, b"", error.strerror or "can't be read")
        try:
            found = os.fstat(descriptor)
            why_not = _why_not(found, left)
            content = b"" if why_not else _read_all(descriptor, left)
        finally:
            os.close(descriptor)
        return None if stat.S_ISDIR(found.st_mode) else Artifact(name, content, why_not)


def _read_all(descriptor: int, most: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(most)


def _why_not(found: os.stat_result, left: int) -> str | None:
    if not stat.S_ISREG(found.st_mode):
        return "not a regular file"
    if found.st_size > left:
        return f"{found.st_size} bytes, only {left} of the artifact limit are left"
    return None
