"""Callers by the keys of a file, which is looked at again and again: keys are made and revoked while we serve."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from executor_api.domain.api_key import KeyRing
from executor_api.domain.caller import Caller
from executor_api.errors import ConfigurationError
from executor_api.http.auth.key_file import read_keys
from executor_api.http.auth.ways import ExpiredError, Way

LOOK_SECONDS = 1.0
"""How long a change of the file may stay unseen."""
GONE_SECONDS = 5.0
"""How long a file may be away that somebody replaces in two steps; for longer, it was deleted."""

_STALE = "the file of API keys (--api-keys) can't be used since it changed; its last good keys stay, the log says why"
_LOST = "the file of API keys (--api-keys) can't be used, and no key opens; the log says why"
_EMPTY = "the file of API keys (--api-keys) has none; make one with `executor-api keys create`"
_log = structlog.get_logger(__name__)

Identity = tuple[int, ...] | None
"""Which file stands at the path, and in what state; None if there is none."""


class FileKeys(Way):
    """The keys of the file at ``path``. Raises `ConfigurationError` if it can't be used.

    Later mistakes are logged, and the keys read before stay: a slip must not lock everybody out. A key that was
    revoked is refused as soon as the change is seen, and where the file is deleted, so are all.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._identity = _identity(path)
        self._ring = KeyRing(read_keys(path))
        self._stale = False
        self._gone_since = 0.0
        self._looked = time.monotonic()
        self._looking = asyncio.Lock()

    async def caller(self, credentials: str) -> Caller | None:
        """Whose key it is. Raises `ExpiredError`."""
        await self._look()
        key = self._ring.find(credentials)
        if key is not None and key.expired(self._clock()):
            raise ExpiredError(f"this key expired at {key.expires:%Y-%m-%dT%H:%M:%SZ}; ask for a new one")
        return key.caller() if key is not None else None

    async def notes(self) -> Sequence[str]:
        """Whether something is wrong with the file; what it is may hold what strangers must not see."""
        await self._look()
        if self._stale:
            return [_STALE if self._ring else _LOST]
        return [] if self._ring else [_EMPTY]

    async def reload(self) -> None:
        """Read the file, changed or not."""
        async with self._looking:
            await self._read()

    async def _look(self) -> None:
        """Read the file if it has changed. Who comes meanwhile waits: the key it shows may be a revoked one."""
        if time.monotonic() - self._looked < LOOK_SECONDS and not self._looking.locked():
            return
        async with self._looking:
            if time.monotonic() - self._looked >= LOOK_SECONDS:
                self._looked = time.monotonic()
                identity = _identity(self._path)
                if identity != self._identity:
                    await self._read()
                elif identity is None and self._ring and self._looked - self._gone_since >= GONE_SECONDS:
                    self._ring = KeyRing([])
                    _log.error("API keys are gone with their file, none opens any more", path=str(self._path))

    async def _read(self) -> None:
        before, self._identity = self._identity, _identity(self._path)
        # Looked at before its content: a change in between is seen next time.
        if self._identity is None and before is not None:
            self._gone_since = time.monotonic()
        try:
            self._ring = KeyRing(await asyncio.to_thread(read_keys, self._path))
        except ConfigurationError as error:
            self._stale = True
            _log.error("API keys not reloaded, those in use stay", problem=str(error))
        else:
            self._stale = False
            _log.info("API keys reloaded", keys=len(self._ring))


def _identity(path: Path) -> Identity:
    """A mounted Secret changes by the swap of a link on the way, an edited file by its times."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
