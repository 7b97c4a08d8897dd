"""The folders of a call: what is written stays inside, and is gone afterwards."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
from collections.abc import Callable
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


def _fill(folder: Path) -> None:
    for number in range(500):
        (folder / f"{number:0100}").touch()


def _mark(folder: Path) -> None:
    try:
        os.setxattr(folder, "user.mark", b"of a call")
    except OSError:
        pytest.skip("this file system has no extended attributes")


def _replace_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        shutil.rmtree(folder)
        make(folder)

    return replace


DEEDS: dict[str, Callable[[Path], object]] = {
    "writes a file": lambda folder: (folder / "file").write_text("x"),
    "makes folders": lambda folder: (folder / "deep/er").mkdir(parents=True),
    "writes many files": _fill,
    "closes it": lambda folder: folder.chmod(0),
    "opens it to all": lambda folder: folder.chmod(0o777),
    "marks it": _mark,
    "deletes it": shutil.rmtree,
    "puts a file there": _replace_by(Path.touch),
    "puts a link there": _replace_by(lambda folder: folder.symlink_to(folder.parent.parent)),
    "puts a folder there": _replace_by(lambda folder: (folder / "deep").mkdir(parents=True)),
}


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("name", ["work", "home", "tmp"])
def test_a_renewed_folder_is_as_good_as_new(workspace: Workspace, name: str, deed: str) -> None:
    """Whatever a call did to it, it is an empty folder with the mode, the size and the attributes that it had."""
    folder = workspace.root / name
    before = folder.stat()
    workspace.remember()
    DEEDS[deed](folder)
    (workspace.root / "main.py").touch()
    workspace.renew()
    after = folder.lstat()
    assert (after.st_mode, after.st_size, os.listxattr(folder)) == (before.st_mode, before.st_size, [])
    assert {path.name for path in workspace.root.iterdir()} == {"home", "tmp", "work"}
    assert list(folder.iterdir()) == []


def test_a_folder_that_a_call_wrote_to_stays(workspace: Workspace) -> None:
    """It is emptied, not made anew, as long as it has no more to say than before."""
    workspace.remember()
    before = workspace.work.stat()
    workspace.write_files({"file": encoded(b"")})
    if workspace.work.stat().st_size != before.st_size:
        pytest.skip("this file system gives a folder another size with each name")
    workspace.renew()
    assert workspace.work.stat().st_ino == before.st_ino


@pytest.mark.parametrize("deed", ["closes it", "opens it to all", "marks it", "deletes it", "puts a link there"])
def test_a_root_that_was_tampered_with_is_not_renewed(workspace: Workspace, deed: str) -> None:
    """What the folders lie in is no call's business: the sandbox must go."""
    workspace.remember()
    DEEDS[deed](workspace.root)
    with pytest.raises(OSError, match=workspace.root.name):
        workspace.renew()
    with contextlib.suppress(OSError):
        workspace.root.chmod(0o700)


def test_what_was_not_remembered_is_not_renewed(workspace: Workspace) -> None:
    """Without knowing how the folders were nobody can tell that they are the same."""
    with pytest.raises(OSError, match="another folder"):
        workspace.renew()
