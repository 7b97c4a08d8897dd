"""The secret behind sandbox tokens."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from executor_api.errors import ConfigurationError
from executor_api.master_key import FILE_NAME, master_key


def test_a_key_is_made_once_and_kept(tmp_path: Path) -> None:
    """The next start, and a rival at the same moment, get the same key; only its owner can read it."""
    directory = tmp_path / "deep" / "data"
    with ThreadPoolExecutor(2) as pool:
        keys = set(pool.map(lambda _: master_key("", directory), range(2)))
    assert keys == {master_key("", directory)}
    assert (directory / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in directory.iterdir()] == [FILE_NAME]


def test_a_given_key_is_used_and_not_kept(tmp_path: Path) -> None:
    """Replicas share a key from their environment; none of them writes it down."""
    assert master_key("k" * 32, tmp_path) == b"k" * 32
    assert list(tmp_path.iterdir()) == []


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    """A key that could be guessed is no key, wherever it comes from."""
    with pytest.raises(ConfigurationError, match="EXECUTOR_MASTER_KEY"):
        master_key("short", tmp_path)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """As ssh does: whoever reads the key can forge results."""
    master_key("", tmp_path)
    (tmp_path / FILE_NAME).chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        master_key("", tmp_path)


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The sentence has the path and the flag."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="--data-dir"):
        master_key("", tmp_path / "file")
