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
    names, complete = _matching(work, patterns) if patterns else ([], True)
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
    for looked_at, (name, matches) in enumerate(_walk(work, globs), start=1):
        if looked_at > MOST_ENTRIES:
            break
        if matches:
            found.add(name)
    return sorted(found), looked_at <= MOST_ENTRIES


def _walk(work: Path, globs: list[_Parts]) -> Iterator[tuple[str, bool]]:
    """Yield every entry that a match may lie at or below, and whether it is one.

    A folder keeps the places in each pattern where its names may have led: neither depth nor a pattern makes an entry
    cost more than its own name.
    """
    stack = [("", [_skip_any(parts, {0}) for parts in globs])]
    while stack:
        above, places = stack.pop()
        with contextlib.suppress(OSError), os.scandir(f"{work}/{above}") as entries:
            for entry in entries:
                after = [_step(parts, before, entry.name) for parts, before in zip(globs, places, strict=True)]
                yield above + entry.name, any(len(parts) in there for parts, there in zip(globs, after, strict=True))
                if any(after) and entry.is_dir(follow_symlinks=False):
                    stack.append((f"{above}{entry.name}/", after))


def _compile(pattern: str) -> _Parts:
    names = [name for name in pattern.split("/") if name not in ("", ".")]
    return [None if name == "**" else re.compile(fnmatch.translate(name)) for name in names]


def _step(parts: _Parts, places: set[int], name: str) -> set[int]:
    """Where one more name leads."""
    after = set()
    for place in places - {len(parts)}:
        part = parts[place]
        if part is None:
            after.add(place)
        elif part.match(name):
            after.add(place + 1)
    return _skip_any(parts, after)


def _skip_any(parts: _Parts, places: set[int]) -> set[int]:
    """``**`` may stand for nothing."""
    for place in range(len(parts)):
        if place in places and parts[place] is None:
            places.add(place + 1)
    return places


def _read(work: Path, name: str, left: int) -> Artifact | None:
    """Read one regular file, by what the kernel finds under its name: links are its business, and it has limits."""
    shown = name.encode(errors="backslashreplace").decode()
    if shown != name:
        return Artifact(shown, b"", "its name is not UTF-8")
    try:
        pinned = os.open(work / name, os.O_PATH | os.O_CLOEXEC)  # which does nothing yet to what is there
    except OSError as error:
        return Artifact(name, b"", error.strerror or "can't be read")
    try:
        return _read_pinned(work, name, pinned, left)
    except OSError as error:
        return Artifact(name, b"", error.strerror or "can't be read")
    finally:
        os.close(pinned)


def _read_pinned(work: Path, name: str, pinned: int, left: int) -> Artifact | None:
    """A link must not lead out: the runner may see what the call may not. Raises ``OSError``."""
    found, itself = os.fstat(pinned), Path(f"/proc/self/fd/{pinned}")
    if not itself.readlink().is_relative_to(os.path.realpath(work)):
        return Artifact(name, b"", "leads out of the working directory")
    if stat.S_ISDIR(found.st_mode):
        return None
    if not stat.S_ISREG(found.st_mode):
        return Artifact(name, b"", "not a regular file")
    if found.st_size > left:
        return Artifact(name, b"", f"{found.st_size} bytes, only {left} of the artifact limit are left")
    with itself.open("rb") as file:
        return Artifact(name, file.read(left))
