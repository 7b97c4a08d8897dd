"""Deleting what a call left, whatever it did to make that hard."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor_runner.removal import remove_tree

NAME = "d" * 50


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "root"
    root.mkdir()
    yield root
    subprocess.run(["rm", "-rf", root], check=True)  # after a failure: pytest itself could not


def dig(folder: Path, depth: int) -> None:
    """Nest folders, each with a file, beyond what any path can name."""
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.close(os.open("file", os.O_CREAT, dir_fd=descriptor))
        os.mkdir(NAME, dir_fd=descriptor)
        below = os.open(NAME, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)


def test_folders_may_be_deeper_than_python_recurses(root: Path) -> None:
    """A thousand folders in each other are removed, more than a path can name."""
    dig(root, 1100)
    remove_tree(root)
    assert not root.exists()


def test_folders_may_be_closed(root: Path) -> None:
    """A folder that its owner may not read, and a file that nobody may, are removed."""
    closed = root / "one" / "closed"
    closed.mkdir(parents=True)
    (closed / "file").touch(mode=0o000)
    for folder in (closed, closed.parent):
        folder.chmod(0o000)
    remove_tree(root)
    assert not root.exists()


def test_links_are_removed_not_followed(root: Path) -> None:
    """What links point to stays, also deep in the tree."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "file").write_text("stays")
    dig(root, 50)
    (root / NAME / "link").symlink_to(outside)
    (root / "link").symlink_to(outside)
    remove_tree(root)
    assert not root.exists()
    assert (outside / "file").read_text() == "stays"


def test_what_is_gone_is_no_error(root: Path) -> None:
    """Removing twice is fine."""
    remove_tree(root)
    remove_tree(root)
    assert not root.exists()
