"""Files that a call leaves to be brought back. Names, links and numbers are the call's choice: all is bounded."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

MOST_ENTRIES = 100_000
"""Files and folders looked at for a match."""
MOST_MATCHES = 1_000

_MAGIC = set("*?[")
_Parts = Sequence["re.Pattern[str] | None"]  # None stands for any number of folders


class Artifact(NamedTuple):
    """A file to bring back, or why it is not."""

    path: str
    content: bytes
    skipped: str | None = None


def collect(work: Path, patterns: list[str], most_bytes: int) -> Iterator[Artifact]:
    """Yield the files below ``work`` that match, each once, until ``most_bytes`` are used; the rest is skipped by name.

    Patterns are globs; ``**`` is any number of folders, hidden ones too, links to folders are not followed.
    """
    names, complete = _matching(work, patterns)
    left = most_bytes
    for name in names[:MOST_MATCHES]:
        artifact = _read(work, name, left)
        if artifact is not None:
            left -= len(artifact.content)
            yield artifact
    if len(names) > MOST_MATCHES:
        yield Artifact(".", b"", f"{len(names)} files match, only the first {MOST_MATCHES} are looked at")
    elif not complete:
        yield Artifact(".", b"", f"only {MOST_ENTRIES} files and folders are looked at for a match")


def _matching(work: Path, patterns: list[str]) -> tuple[list[str], bool]:
    """Names that match, in order, and whether everything was looked at."""
    magic = [pattern for pattern in patterns if not _MAGIC.isdisjoint(pattern)]
    found = {pattern for pattern in patterns if pattern not in magic and os.path.lexists(work / pattern)}
    globs = [_compile(pattern) for pattern in magic]
    looked_at = 0
    for looked_at, names in enumerate(_walk(work) if globs else (), start=1):
        if looked_at > MOST_ENTRIES:
            break
        if any(_match(parts, names) for parts in globs):
            found.add("/".join(names))
    return sorted(found), looked_at <= MOST_ENTRIES


def _walk(work: Path) -> Iterator[tuple[str, ...]]:
    """Yield the path of every entry as its names."""
    stack: list[tuple[str, ...]] = [()]
    while stack:
        above = stack.pop()
        with contextlib.suppress(OSError), os.scandir(Path(work, *above)) as entries:
            for entry in entries:
                yield (*above, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    stack.append((*above, entry.name))


def _compile(pattern: str) -> _Parts:
    names = [name for name in pattern.split("/") if name not in ("", ".")]
    return [None if name == "**" else re.compile(fnmatch.translate(name)) for name in names]


def _match(parts: _Parts, names: Sequence[str]) -> bool:
    """Keep all the places in the pattern where the names so far may have led: no name can make this slow."""
    places = _skip_any(parts, {0})
    for name in names:
        places = _skip_any(parts, {after for place in places for after in _step(parts, place, name)})
    return len(parts) in places


def _step(parts: _Parts, place: int, name: str) -> tuple[int, ...]:
    if place == len(parts):
        return ()
    part = parts[place]
    if part is None:
        return (place,)
    return (place + 1,) if part.match(name) else ()


def _skip_any(parts: _Parts, places: set[int]) -> set[int]:
    """``**`` may stand for nothing."""
    for place in range(len(parts)):
        if place in places and parts[place] is None:
            places.add(place + 1)
    return places


def _read(work: Path, name: str, left: int) -> Artifact | None:
    """Read one regular file. A link must not lead out: the runner may see what the call may not."""
    path, base = os.path.realpath(work / name), os.path.realpath(work)
    shown = name.encode(errors="backslashreplace").decode()
    if shown != name:
        return Artifact(shown, b"", "its name is not UTF-8")
    if not Path(path).is_relative_to(base):
        return Artifact(name, b"", "leads out of the working directory")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return Artifact(name, b"", error.strerror or "can't be read")
    try:
        return _read_open(name, descriptor, left)
    finally:
        os.close(descriptor)


def _read_open(name: str, descriptor: int, left: int) -> Artifact | None:
    found = os.fstat(descriptor)
    if stat.S_ISDIR(found.st_mode):
        return None
    if not stat.S_ISREG(found.st_mode):
        return Artifact(name, b"", "not a regular file")
    if found.st_size > left:
        return Artifact(name, b"", f"{found.st_size} bytes, only {left} of the artifact limit are left")
    with open(descriptor, "rb", closefd=False) as file:
        return Artifact(name, file.read(left))
