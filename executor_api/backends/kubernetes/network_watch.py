"""What a service knows of its network: it has this tried at the start, again until it is sure, and now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from executor_api.backends.kubernetes.enforcement import Enforced, Verdict, unknown

SURE_SECONDS = 3600.0
"""Until it is tried again after it was found enforced."""
STALE_SECONDS = 2 * SURE_SECONDS
"""For how long it holds that it was found enforced."""
UNSURE_SECONDS = (60.0, 600.0)
"""Until it is tried again after it was not: twice as long each time, from the first to the second."""
REQUIRED_SECONDS = (10.0, 60.0)
"""The same where the service is not ready before it is enforced."""

_log = structlog.get_logger(__name__)


class NetworkWatch:
    """``look`` tries it; ``required``: while it is not known to be enforced, that is a problem. ``clock``: seconds."""

    def __init__(
        self, look: Callable[[], Awaitable[Verdict]], *, required: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.cleared = asyncio.Event()
        """Set once sandboxes can be had at all."""
        self._look = look
        self._required = required
        self._clock = clock
        self._verdict: Verdict | None = None
        self._found_at = 0.0

    @property
    def problem(self) -> str:
        """Why calls must not run; "" if nothing stands in their way."""
        known = self._known
        if not self._required or (known is not None and known.enforced is Enforced.YES):
            return ""
        why = known.text if known is not None else "whether network policies are enforced is being tried"
        return f"{why} (required by --require-network-policy)"

    @property
    def note(self) -> str:
        """What is known, and since when; "" for nothing yet."""
        known = self._known
        if known is None or known.enforced is Enforced.UNKNOWN:
            return "" if known is None else known.text
        return f"{known.text} (tried {_ago(self._clock() - self._found_at)})"

    @property
    def _known(self) -> Verdict | None:
        """The verdict, unless it says that all is well and is old."""
        age = self._clock() - self._found_at
        if self._verdict is None or self._verdict.enforced is not Enforced.YES or age <= STALE_SECONDS:
            return self._verdict
        return unknown(f"they last were {_ago(age)}, and no trial has come to a result since; see the log")

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
        """Whether it is enforced. What was found before holds until the opposite is found, or it is old."""
        known = self._known
        if known is None or known.enforced is Enforced.UNKNOWN or found.enforced is not Enforced.UNKNOWN:
            self._verdict, self._found_at = found, self._clock()
        if found.enforced is Enforced.YES:
            _log.info("network tried", found=found.text)
        else:
            _log.warning("network tried", found=found.text)
        return found.enforced is Enforced.YES


def _ago(seconds: float) -> str:
    minutes = int(seconds / 60)
    return f"{minutes} min ago" if minutes else "less than a minute ago"
