"""The file of API keys: read as a whole or refused, and written as a whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import yaml
from pydantic import Field

from executor_api.domain.api_key import ApiKey
from executor_api.domain.pool_settings import StrictModel
from executor_api.errors import ConfigurationError
from executor_api.service.yaml_model import read_model, refusal, repeated

_HEAD = (
    "# Keys of executor-api, without their secrets. `executor-api keys` writes this file anew: comments do not stay.\n"
)


class ApiKeys(StrictModel):
    """Keys of the API of executor-api, and whose they are."""

    keys: list[ApiKey] = Field(description="Each has an id of its own.")


def read_keys(path: Path) -> list[ApiKey]:
    """The keys in the file. Raises `ConfigurationError` with a line for each mistake."""
    found, source = read_model(path, ApiKeys)
    if mistakes := repeated(source, "keys", "id", (key.id for key in found.keys)):
        raise refusal(mistakes)
    return found.keys


def edit_keys(path: Path, change: Callable[[Sequence[ApiKey]], Sequence[ApiKey]]) -> Sequence[ApiKey]:
    """Change the keys in the file and return them; without the file there are none yet.

    Only its owner can read it afterwards. Who edits it meanwhile waits. Raises `ConfigurationError`, and what
    ``change`` raises; then the file stays as it is.
    """
    path = path.resolve()
    try:
        with _alone_in(path.parent):
            keys = change(read_keys(path) if path.exists() else [])
            _replace(path, render(keys))
            return keys
    except OSError as error:
        raise ConfigurationError(f"{path} can't be written: {error.strerror}") from None


def render(keys: Sequence[ApiKey]) -> str:
    """The file as text."""
    shown = [{name: value for name, value in key.model_dump(mode="json").items() if value} for key in keys]
    return _HEAD + yaml.safe_dump(
        {"keys": shown}, default_flow_style=None, sort_keys=False, allow_unicode=True, width=1000
    )


def readable_by_all(path: Path) -> bool:
    """Whether everybody on this machine may read it."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as draft:  # its mode is 0600
        try:
            draft.write(text)
            draft.flush()
            os.fsync(draft.fileno())
            _give_to_owner_of(path, draft.fileno())
            Path(draft.name).replace(path)
        except BaseException:
            Path(draft.name).unlink()
            raise


def _give_to_owner_of(path: Path, handle: int) -> None:
    """A service that runs as another user must still be able to read what root has changed."""
    with contextlib.suppress(FileNotFoundError):
        owner = path.stat()
        if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(handle, owner.st_uid, owner.st_gid)
