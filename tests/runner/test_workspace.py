"""The folders of a call: what is written stays inside, and is gone afterwards."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from executor_runner.traits import traits
from executor_runner.workspace import Workspace

_FS_IOC_SETFLAGS = 0x40086602
_FS_NODUMP_FL = 0x40


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
    except (OSError, AttributeError):
        pytest.skip("this file system, or this system, has no extended attributes")


def _turn_off_backups(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _FS_IOC_SETFLAGS, struct.pack("l", _FS_NODUMP_FL))
    except OSError:
        pytest.skip("this file system has no flags")
    finally:
        os.close(descriptor)


def _replace_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        shutil.rmtree(folder)
        make(folder)

    return replace


def _look(folder: Path) -> tuple[object, ...]:
    names = os.listxattr(folder) if hasattr(os, "listxattr") else []
    return folder.lstat().st_mode, names, traits(folder).flags


DEEDS: dict[str, Callable[[Path], object]] = {
    "writes a file": lambda folder: (folder / "file").write_text("x"),
    "makes folders": lambda folder: (folder / "deep/er").mkdir(parents=True),
    "writes many files": _fill,
    "closes it": lambda folder: folder.chmod(0),
    "opens it to all": lambda folder: folder.chmod(0o1777),
    "marks it": _mark,
    "has it left out of backups": _turn_off_backups,
    "dates it": lambda folder: os.utime(folder, (1, 1)),
    "deletes it": shutil.rmtree,
    "puts a file there": _replace_by(Path.touch),
    "puts a link there": _replace_by(lambda folder: folder.symlink_to(folder.parent.parent)),
    "puts a folder there": _replace_by(lambda folder: (folder / "deep").mkdir(parents=True)),
}


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("name", ["work", "home", "tmp"])
def test_a_renewed_folder_is_as_good_as_new(workspace: Workspace, name: str, deed: str) -> None:
    """Whatever a call did to it, it is an empty folder with the mode, the attributes and the flags that it had."""
    folder, began = workspace.root / name, time.time()
    before, size = _look(folder), folder.stat().st_size
    workspace.remember()
    DEEDS[deed](folder)
    (workspace.root / "main.py").touch()
    workspace.renew(_soon())
    assert _look(folder) == before
    assert folder.stat().st_size <= max(size, 4096)
    assert folder.stat().st_mtime > began - 60
    assert {path.name for path in workspace.root.iterdir()} == {"home", "tmp", "work"}
    assert list(folder.iterdir()) == []


def test_a_folder_that_a_call_wrote_to_stays(workspace: Workspace) -> None:
    """It is emptied, not made anew, as long as it has no more to say than before."""
    workspace.remember()
    held = os.open(workspace.work, os.O_RDONLY)  # so that its number is not given to another
    try:
        workspace.write_files({"file": encoded(b""), "deep/er": encoded(b"")})
        workspace.renew(_soon())
        assert os.path.samestat(os.fstat(held), workspace.work.stat())
    finally:
        os.close(held)


def test_a_folder_that_held_much_does_not_stay(workspace: Workspace) -> None:
    """Where a folder does not become smaller again, the next call gets another."""
    workspace.remember()
    held = os.open(workspace.work, os.O_RDONLY)
    try:
        _fill(workspace.work)
        workspace.renew(_soon())
        stays = os.path.samestat(os.fstat(held), workspace.work.stat())
        assert not stays or os.fstat(held).st_size <= 4096
    finally:
        os.close(held)


@pytest.mark.parametrize("deed", ["closes it", "opens it to all", "marks it", "deletes it", "puts a link there"])
def test_a_root_that_was_tampered_with_is_not_renewed(workspace: Workspace, deed: str) -> None:
    """What the folders lie in is no call's business: the sandbox must go."""
    workspace.remember()
    DEEDS[deed](workspace.root)
    with pytest.raises(OSError, match=workspace.root.name):
        workspace.renew(_soon())
    with contextlib.suppress(OSError):
        workspace.root.chmod(0o700)


def test_what_takes_too_long_is_not_renewed(workspace: Workspace) -> None:
    """All folders together have until one instant."""
    workspace.remember()
    workspace.write_files({"file": encoded(b"")})
    with pytest.raises(OSError, match="can't be emptied"):
        workspace.renew(time.monotonic())


def test_what_was_not_remembered_is_not_renewed(workspace: Workspace) -> None:
    """Without knowing how the folders were nobody can tell that they are the same."""
    with pytest.raises(OSError, match="another folder"):
        workspace.renew(_soon())


def _soon() -> float:
    return time.monotonic() + 60
