"""What a service keeps about itself in its data directory: the secret of sandbox tokens, and who owns sandboxes."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from executor_api.errors import ConfigurationError

LEAST_CHARACTERS = 32
FILE_NAME = "master.key"
OWNER_FILE_NAME = "owner.id"


def master_key(given: str, data_dir: Path) -> bytes:
    """Return the key; where none is given, the one of the data directory, made at the first start.

    It must outlive the service: without it, the results of sandboxes that outlived a crash can't be read.
    Raises `ConfigurationError`.
    """
    if given:
        return _long_enough(given, "the master key (EXECUTOR_MASTER_KEY)")
    path = data_dir / FILE_NAME
    return _long_enough(_kept(path, "the master key"), f"the master key in {path}")


def owner_id(data_dir: Path) -> str:
    """Who owns the sandboxes: services with one key and records of their own must not take the other's for garbage.

    Raises `ConfigurationError`.
    """
    return _kept(data_dir / OWNER_FILE_NAME, "the owner's id")


def _kept(path: Path, what: str) -> str:
    """The text of the file; at the first start, a random one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with contextlib.suppress(FileExistsError):
                _create(path, secrets.token_hex(32))
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{what} in {path} can't be used: {error}; name a directory of your own with --data-dir"
        ) from None


def _create(path: Path, text: str) -> None:
    """Whole or not at all: another process may start at the same time, and we may be killed."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent) as draft:  # its mode is 0600
        draft.write(text + "\n")
        draft.flush()
        os.fsync(draft.fileno())
        path.hardlink_to(draft.name)


def _long_enough(key: str, name: str) -> bytes:
    if len(key) < LEAST_CHARACTERS:
        raise ConfigurationError(f"{name} has {len(key)} characters; it needs {LEAST_CHARACTERS} or more")
    return key.encode()
