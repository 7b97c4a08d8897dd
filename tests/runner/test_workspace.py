"""The folders of a call: what is written stays inside, and is gone afterwards."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from executor_runner.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "root")
    workspace.create()
    return workspace


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_files_are_written_with_their_folders(workspace: Workspace) -> None:
    """Files lie below the working directory, byte for byte, in folders made for them."""
    workspace.write_files({"a.txt": encoded(b"a\x00\xff"), "deep/er/ü .bin": encoded(b"")})
    assert (workspace.work / "a.txt").read_bytes() == b"a\x00\xff"
    assert (workspace.work / "deep/er/ü .bin").read_bytes() == b""


@pytest.mark.parametrize("name", ["/etc/passwd", "../main.py", "a/../../b", "a/.."])
def test_no_file_is_written_outside(workspace: Workspace, name: str) -> None:
    """A path that leads out is refused before anything is written."""
    with pytest.raises(ValueError, match="leads out of the working directory"):
        workspace.write_files({name: encoded(b"x")})
    assert list(workspace.work.iterdir()) == []


def test_a_file_is_no_folder(workspace: Workspace) -> None:
    """Names that can't be at the same time are an error of the call's setup."""
    with pytest.raises(OSError, match="a"):
        workspace.write_files({"a": encoded(b""), "a/b": encoded(b"")})


def test_the_source_lies_beside_the_working_directory(workspace: Workspace) -> None:
    """A call that lists its directory does not find its own source there."""
    path = workspace.write_source("main.py", "print('ü')\r\n")
    assert path.read_bytes() == "print('ü')\r\n".encode()
    assert path.parent == workspace.root


def test_removal_takes_everything(workspace: Workspace) -> None:
    """Files, folders and links are gone; what a link points to stays."""
    outside = workspace.root.parent / "outside"
    outside.write_text("stays")
    workspace.write_files({"deep/er/file": encoded(b"x")})
    (workspace.home / "link").symlink_to(outside)
    workspace.remove()
    assert not workspace.root.exists()
    assert outside.read_text() == "stays"
    workspace.remove()  # once more is no error
