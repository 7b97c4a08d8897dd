"""What comes back from a call's folder: regular files inside it, within limits, whatever the call left there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from executor_runner.artifacts import MOST_MATCHES, Artifact, collect

PLENTY = 1 << 20


@pytest.fixture
def work(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    return work


def put(work: Path, name: str, content: bytes = b"x") -> None:
    path = work / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def names(work: Path, *patterns: str) -> list[str]:
    return [artifact.path for artifact in collect(work, list(patterns), PLENTY) if artifact.skipped is None]


def skipped(work: Path, *patterns: str, most: int = PLENTY) -> dict[str, str]:
    found = collect(work, list(patterns), most)
    return {artifact.path: artifact.skipped for artifact in found if artifact.skipped is not None}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.txt", ["a.txt"]),
        ("*.txt", ["a.txt"]),
        ("?.txt", ["a.txt"]),
        ("[ab].*", ["a.txt", "b.csv"]),
        ("deep/*.txt", ["deep/c.txt"]),
        ("*/*", ["deep/c.txt"]),
        ("**/*.txt", ["a.txt", "deep/c.txt", "deep/er/d.txt"]),
        ("deep/**", ["deep/c.txt", "deep/er/d.txt"]),
        ("**", [".hidden", "a.txt", "b.csv", "deep/c.txt", "deep/er/d.txt"]),
        (".*", [".hidden"]),
        ("./a.txt", ["./a.txt"]),
        ("none*", []),
        ("none", []),
        ("deep", []),
        ("", []),
    ],
)
def test_globs(work: Path, pattern: str, expected: list[str]) -> None:
    """Patterns match as in a shell, ``**`` any number of folders; folders themselves are nothing to bring back."""
    for name in ("a.txt", "b.csv", ".hidden", "deep/c.txt", "deep/er/d.txt"):
        put(work, name)
    assert names(work, pattern) == expected


def test_each_file_comes_once(work: Path) -> None:
    """A file that several patterns match comes once, in the order of names."""
    put(work, "b")
    put(work, "a", b"\x00\xff")
    assert list(collect(work, ["*", "a", "?"], PLENTY)) == [Artifact("a", b"\x00\xff"), Artifact("b", b"x")]


def test_links_out_bring_nothing(work: Path) -> None:
    """Neither a link to a file outside, nor a linked folder, nor a path shows what the call may not read."""
    secret = work.parent / "secret"
    put(secret, "file", b"secret")
    (work / "file").symlink_to(secret / "file")
    (work / "folder").symlink_to(secret)
    assert names(work, "*", "**", "folder/*", "folder/file", "../secret/file", str(secret / "file")) == []
    assert skipped(work, "file", "folder/file") == dict.fromkeys(
        ("file", "folder/file"), "leads out of the working directory"
    )


def test_links_inside_are_followed(work: Path) -> None:
    """A link to another file of the call brings its content."""
    put(work, "real", b"content")
    (work / "link").symlink_to("real")
    assert list(collect(work, ["link"], PLENTY)) == [Artifact("link", b"content")]


def test_loops_of_links_end(work: Path) -> None:
    """Folders linked into each other don't multiply."""
    put(work, "a/file")
    for name in ("one", "two", "three"):
        (work / "a" / name).symlink_to(work)
    (work / "self").symlink_to("self")
    assert names(work, "**") == ["a/file"]


def test_what_is_no_regular_file_is_said_and_never_waited_for(work: Path) -> None:
    """A FIFO without a writer blocks nobody."""
    os.mkfifo(work / "pipe")
    assert skipped(work, "pipe") == {"pipe": "not a regular file"}


def test_limits_are_exact(work: Path) -> None:
    """Files come until the limit is used up to the byte; the others are named, with the reason."""
    for name, size in (("a", 6), ("b", 5), ("c", 4), ("d", 0)):
        put(work, name, bytes(size))
    found = list(collect(work, ["*"], 10))
    assert [(artifact.path, len(artifact.content)) for artifact in found if artifact.skipped is None] == [
        ("a", 6),
        ("c", 4),
        ("d", 0),
    ]
    assert skipped(work, "*", most=10) == {"b": "5 bytes, only 4 of the artifact limit are left"}


def test_numbers_are_bounded(work: Path) -> None:
    """A call that leaves thousands of files gets the first of them, and is told so."""
    for number in range(MOST_MATCHES + 5):
        put(work, f"{number:06}", b"")
    assert len(names(work, "*")) == MOST_MATCHES
    assert len(skipped(work, "*")) == 1


def test_a_name_that_is_no_text_is_skipped(work: Path) -> None:
    """A file whose name no JSON can carry is named as well as possible."""
    put(work, "\udcff.txt")
    assert list(skipped(work, "*")) == ["\\udcff.txt"]


def test_no_pattern_is_slow(work: Path) -> None:
    """Patterns made to backtrack end at once."""
    put(work, "/".join("a" * 20 for _ in range(10)) + "/b")
    assert names(work, "**/" * 15 + "c") == []
    assert names(work, "**/a*a*a*a*/**/a*a*/**/c") == []


def test_no_depth_is_slow(work: Path) -> None:
    """Folders nested as deep as a path goes are searched in the time of as many files."""
    folder = work
    for _ in range(900):
        folder /= "d"
    folder.mkdir(parents=True)
    (folder / "file").touch()
    began = time.monotonic()
    assert names(work, "**/file", "d/**/d/**/file", "**/nothing") == ["d/" * 900 + "file"]
    assert time.monotonic() - began < 30, "else it does not end in a lifetime"


def test_a_long_chain_of_links_is_an_unreadable_file(work: Path) -> None:
    """Links to links, more than Python recurses and the kernel follows, are skipped with the kernel's reason."""
    put(work, "0")
    for number in range(1, 2000):
        (work / str(number)).symlink_to(str(number - 1))
    assert names(work, "39") == ["39"]
    assert skipped(work, "1999") == {"1999": "Too many levels of symbolic links"}
