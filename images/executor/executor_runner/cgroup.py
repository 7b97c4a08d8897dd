"""Memory and CPU of this container from its control group, version 1 or 2."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from executor_runner.census import read_small

_NO_LIMIT = 1 << 60
"""Version 1 writes "no limit" as a number near 2^63."""


def _read(path: Path) -> bytes:
    try:
        return read_small(str(path))
    except OSError:
        return b""


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _table(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0].decode(): int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}  # noqa: PLR2004 - key and value


class MemoryGroup(NamedTuple):
    """One memory control group; file names differ between the versions."""

    folder: Path
    limit_file: str
    usage_file: str
    peak_file: str
    events_file: str
    file_keys: tuple[str, str]

    def limit_bytes(self) -> int | None:
        """The limit; None if there is none."""
        limit = _number(self.folder / self.limit_file)
        return limit if limit is not None and limit < _NO_LIMIT else None

    def used_bytes(self, worth_a_look: int) -> int:
        """Memory the kernel could not simply take back: usage without page cache.

        The cache is only subtracted when usage reaches ``worth_a_look``: one small read otherwise.
        """
        usage = _number(self.folder / self.usage_file) or 0
        if usage < worth_a_look:
            return usage
        stat = _table(self.folder / "memory.stat")
        return max(0, usage - sum(stat.get(key, 0) for key in self.file_keys))

    def peak_bytes(self) -> int:
        """The most it ever used; 0 where the kernel does not tell."""
        return _number(self.folder / self.peak_file) or 0

    def oom_kills(self) -> int:
        """How many processes of it the kernel has killed for memory."""
        return _table(self.folder / self.events_file).get("oom_kill", 0)


def memory_group(root: Path = Path("/sys/fs/cgroup")) -> MemoryGroup | None:
    """The group this container sees as its own, or None outside a container with a memory limit."""
    version2 = MemoryGroup(
        root, "memory.max", "memory.current", "memory.peak", "memory.events", ("inactive_file", "active_file")
    )
    version1 = MemoryGroup(
        root / "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "memory.max_usage_in_bytes",
        "memory.oom_control",
        ("total_inactive_file", "total_active_file"),
    )
    return next((group for group in (version2, version1) if group.limit_bytes() is not None), None)
