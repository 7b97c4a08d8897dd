"""Callers with a token of a Kubernetes service account, which the API server is asked about."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from executor_api.domain.caller import Caller, Scope
from executor_api.errors import UnavailableError
from executor_api.http.auth.peek import peek
from executor_api.http.auth.ways import Way

GOOD_SECONDS = 60.0
"""How long an answer holds; an account or pod that is deleted can call for as long."""
BAD_SECONDS = 5.0
"""The same for a refusal."""
MOST_REMEMBERED = 4096
AT_ONCE = 8
"""Reviews at a time: what anybody sends must not become a load on the API server. And as many of known tokens."""
MOST_WAITING = 256
WAIT_SECONDS = 10.0
"""For a turn and the answer."""
_ACCOUNT = re.compile(r"system:serviceaccount:([a-z0-9-]+):([a-z0-9.-]+)")
_SCOPES = frozenset({Scope.EXECUTE, Scope.READ})

Moment = Callable[[], float]
_Memory = dict[bytes, tuple[float, Caller | None]]
"""By the hash of a token: until when what was said of it holds, and who it is. It is known for longer."""


class Reviewer(Protocol):
    """Asks the API server."""

    @property
    def trouble(self) -> str:
        """Why it could not be asked the last time, without secrets; empty if it could."""
        ...

    async def review(self, token: str) -> str | None:
        """The user whose token this is; None if it is not good for our audience. Raises `UnavailableError`."""
        ...

    async def close(self) -> None:
        """Give back its connections."""
        ...


class ServiceAccountTokens(Way):
    """Knows the tokens made for ``audience``. ``clock`` gives monotonic seconds, ``now`` those since 1970."""

    def __init__(
        self, audience: str, reviewer: Reviewer, clock: Moment = time.monotonic, now: Moment = time.time
    ) -> None:
        self._audience = audience
        self._reviewer = reviewer
        self._clock = clock
        self._now = now
        self._good: _Memory = {}
        self._bad: _Memory = {}  # apart: a flood of bad ones must not push out the good
        self._asking: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._slots_of_known = asyncio.Semaphore(AT_ONCE)

    async def caller(self, credentials: str) -> Caller | None:
        """The service account, for its namespace. Raises `UnavailableError` if the API server can't be asked."""
        seen = peek(credentials)
        left = None if seen is None else self._seconds_left(seen.claims)
        if left is None or left <= 0:
            return None
        key = hashlib.sha256(credentials.encode()).digest()
        for memory in (self._good, self._bad):
            until, caller = memory.get(key, (0.0, None))
            if until > self._clock():
                return caller
        return await asyncio.shield(self._answer(key, credentials, self._clock() + left))

    async def notes(self) -> Sequence[str]:
        """That the API server can't be asked."""
        return [self._reviewer.trouble] if self._reviewer.trouble else []

    async def close(self) -> None:
        """Ask no more."""
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await self._reviewer.close()

    def _seconds_left(self, claims: Mapping[str, Any]) -> float | None:
        """Until it expires by its own word; None if it is no token of a service account for us.

        Those that never expire are for no audience, and good for nobody but the API server.
        """
        audiences, expires, subject = claims.get("aud"), claims.get("exp"), claims.get("sub")
        if not isinstance(audiences, list) or self._audience not in audiences:
            return None
        if not isinstance(subject, str) or not _ACCOUNT.fullmatch(subject) or not isinstance(expires, int):
            return None
        return expires - self._now()

    def _answer(self, key: bytes, token: str, expires: float) -> asyncio.Task[Caller | None]:
        """What the API server says: asked once for all who send the same token meanwhile.

        A token that was good before does not wait with those that anybody can have made up.
        """
        if key not in self._asking:
            known = key in self._good
            if not known and len(self._asking) >= MOST_WAITING:
                raise UnavailableError("too many tokens wait to be reviewed")
            slots = self._slots_of_known if known else self._slots
            task = self._asking[key] = asyncio.create_task(self._ask(key, token, expires, slots))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # who asked may have left
        return self._asking[key]

    async def _ask(self, key: bytes, token: str, expires: float, slots: asyncio.Semaphore) -> Caller | None:
        try:
            async with asyncio.timeout(WAIT_SECONDS), slots:
                account = _ACCOUNT.fullmatch(await self._reviewer.review(token) or "")
        except TimeoutError:
            raise UnavailableError("too many tokens wait to be reviewed") from None
        finally:
            del self._asking[key]
        if account is None:
            self._good.pop(key, None)
            _remember(self._bad, key, self._clock() + BAD_SECONDS, None)
            return None
        caller = Caller(account[1], account[2], _SCOPES, way="token-review")
        _remember(self._good, key, min(self._clock() + GOOD_SECONDS, expires), caller)
        return caller


def _remember(memory: _Memory, key: bytes, until: float, caller: Caller | None) -> None:
    memory.pop(key, None)
    if len(memory) >= MOST_REMEMBERED:
        del memory[next(iter(memory))]  # the oldest
    memory[key] = until, caller
