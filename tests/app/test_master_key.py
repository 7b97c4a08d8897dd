"""The master key: made once, kept, and never too short."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from executor_api.errors import ConfigurationError
from executor_api.master_key import FILE_NAME, master_key


def test_key_is_kept(tmp_path: Path) -> None:
    """A second start finds the key of the first, and nobody else can read it."""
    folder = tmp_path / "new" / "state"
    first = master_key("", folder)
    assert len(first) >= 32
    assert master_key("", folder) == first
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]


def test_starting_at_once_makes_one_key(tmp_path: Path) -> None:
    """Starts at the same time agree on one key."""
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: master_key("", tmp_path), range(32)))) == 1


def test_given_key_wins(tmp_path: Path) -> None:
    """An operator's key is used as it is, and nothing is written."""
    assert master_key("k" * 32, tmp_path) == b"k" * 32
    assert not list(tmp_path.iterdir())


def test_short_key_is_refused(tmp_path: Path) -> None:
    """A key that could be guessed is refused with the length it needs."""
    with pytest.raises(ConfigurationError, match="32 or more"):
        master_key("short", tmp_path)
    (tmp_path / FILE_NAME).write_text("")
    with pytest.raises(ConfigurationError, match="has 0 characters"):
        master_key("", tmp_path)


def test_unusable_directory_is_named(tmp_path: Path) -> None:
    """A data directory that is a file is named, with the way out."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="--data-dir"):
        master_key("", tmp_path / "file")
