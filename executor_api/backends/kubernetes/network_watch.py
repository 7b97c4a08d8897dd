"""What a service knows of its network: it has this tried at the start, again until it is sure, and now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from executor_api.backends.kubernetes.enforcement import Enforced, Verdict

SURE_SECONDS = 3600.0
"""Until it is tried again after it was found enforced."""
UNSURE_SECONDS = (60.0, 600.0)
"""Until it is tried again after it was not: twice as long each time, from the first to the second."""
REQUIRED_SECONDS = (10.0, 60.0)
"""The same where the service is not ready before it is enforced."""

_log = structlog.get_logger(__name__)


class NetworkWatch:
    """``look`` tries it; ``required``: while it is not known to be enforced, that is a problem."""

    def __init__(self, look: Callable[[], Awaitable[Verdict]], *, required: bool) -> None:
        self.cleared = asyncio.Event()
        """Set once sandboxes can be had at all."""
        self._look = look
        self._required = required
        self._verdict: Verdict | None = None

    @property
    def problem(self) -> str:
        """Why calls must not run; "" if nothing stands in their way."""
        if not self._required or (self._verdict is not None and self._verdict.enforced is Enforced.YES):
            return ""
        why = (
            self._verdict.text if self._verdict is not None else "whether network policies are enforced is being tried"
        )
        return f"{why} (required by --require-network-policy)"

    @property
    def note(self) -> str:
        """What is known; "" for nothing yet."""
        return "" if self._verdict is None else self._verdict.text

    async def run(self) -> None:
        """Try for ever."""
        await self.cleared.wait()
        first, most = REQUIRED_SECONDS if self._required else UNSURE_SECONDS
        pause = first
        while True:
            enforced = self._take(await self._look())
            await asyncio.sleep(SURE_SECONDS if enforced else pause)
            pause = first if enforced else min(most, 2 * pause)

    def _take(self, found: Verdict) -> bool:
        """Whether it is enforced. What was found before holds until the opposite is found, not until it is unclear."""
        known = self._verdict
        if known is None or known.enforced is Enforced.UNKNOWN or found.enforced is not Enforced.UNKNOWN:
            self._verdict = found
        if found.enforced is Enforced.YES:
            _log.info("network tried", found=found.text)
        else:
            _log.warning("network tried", found=found.text)
        return found.enforced is Enforced.YES
