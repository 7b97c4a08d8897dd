"""A way to tell callers by what they send as ``Authorization: Bearer``; and the simplest one, a single key."""

from __future__ import annotations

import hmac
from typing import Protocol

from executor_api.domain.caller import DEFAULT_TENANT, Caller


class Way(Protocol):
    """One way to tell who calls. Several may be open at once; each knows its own credentials."""

    async def caller(self, credentials: str) -> Caller | None:
        """Whose credentials these are; None if they are not (any more) good here.

        Raises `UnavailableError` if that can't be found out now; then the caller is kept out.
        """
        ...

    async def close(self) -> None:
        """Give back what it holds."""
        ...


class SingleKey:
    """One key that opens everything, for a service with one tenant."""

    def __init__(self, key: str) -> None:
        self._expected = key.encode()

    async def caller(self, credentials: str) -> Caller | None:
        """Whoever has the key."""
        known = hmac.compare_digest(credentials.encode("latin-1", "replace"), self._expected)
        return Caller(DEFAULT_TENANT, "api-key", way="api-key") if known else None

    async def close(self) -> None:
        """There is nothing to give back."""
