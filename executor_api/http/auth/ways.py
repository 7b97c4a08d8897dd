"""A way to tell callers by what they send as ``Authorization: Bearer``; and the simplest one, a single key."""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from collections.abc import Sequence

from executor_api.domain.caller import DEFAULT_TENANT, Caller
from executor_api.errors import ExecutorError


class ExpiredError(ExecutorError):
    """The credentials are right, but their time is over. The message goes to whoever sent them."""


class Way(ABC):
    """One way to tell who calls. Several may be open at once; each knows its own credentials."""

    @abstractmethod
    async def caller(self, credentials: str) -> Caller | None:
        """Whose credentials these are; None if they are not (any more) good here.

        Raises `ExpiredError`, and `UnavailableError` if it can't be found out now; then the caller is kept out.
        """

    async def notes(self) -> Sequence[str]:
        """What an operator should know now, in sentences without secrets; ``/readyz`` shows them to everybody."""
        return ()

    async def reload(self) -> None:
        """Read again what it was made from. A mistake there is logged, and what was read before stays. Never raises."""
        return

    async def close(self) -> None:
        """Give back what it holds."""
        return


class SingleKey(Way):
    """One key that opens everything, for a service with one tenant."""

    def __init__(self, key: str) -> None:
        self._expected = key.encode()

    async def caller(self, credentials: str) -> Caller | None:
        """Whoever has the key."""
        known = hmac.compare_digest(credentials.encode("latin-1", "replace"), self._expected)
        return Caller(DEFAULT_TENANT, "api-key", way="api-key") if known else None
