"""How many sandboxes are made for calls at once: a burst that all goes cold would starve itself and the pools."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from executor_api.backends.base import SandboxFailedError
from executor_api.domain.outcome import Evidence, Reason

FIRST = 8
"""So many at once to begin with: one node starts no more in a second or two."""
SHRINK_SECONDS = 2.0
"""Between two steps back: what is under way when the cluster turns out to be full is one sign, not many."""
HOLD_SECONDS = 10.0
"""A start that takes longer is held up by something the next one may not meet, and keeps nobody waiting any more."""


class ColdStarts:
    """Gives turns to executions, first come, first served; a number of them have theirs at once, until it is `over`.

    The number follows what the cluster can take, as congestion control does: it grows with each sandbox that starts, up
    to ``most``, and halves when one finds no room. More at once would not start sooner: the scheduler tries again what
    found no room after longer and longer pauses.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._at_once = float(min(most, FIRST))
        self._shrunk_at = -SHRINK_SECONDS
        self._under_way: dict[str, asyncio.TimerHandle] = {}
        self._line: dict[str, asyncio.Future[str | None]] = {}

    def line_up(self, execution_id: str, turn: asyncio.Future[str | None]) -> None:
        """Set the result of ``turn`` to None once it has come, unless it is done by then. Once an execution."""
        if execution_id not in self._under_way:
            self._line.setdefault(execution_id, turn)
            self._give_turns()

    def leave_line(self, execution_id: str) -> None:
        """It has found something else."""
        self._line.pop(execution_id, None)

    async def turn(self, execution_id: str, seconds: float) -> None:
        """Return when it is this one's. Raises `SandboxFailedError` if that takes longer than ``seconds``."""
        turn: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.line_up(execution_id, turn)
        if execution_id in self._under_way:
            return
        try:
            async with asyncio.timeout(seconds):
                await turn
        except TimeoutError:
            why = f"no sandbox could be made in time: {self.state(execution_id)}"
            raise SandboxFailedError(Evidence(Reason.START_TIMEOUT, why)) from None
        except asyncio.CancelledError:
            self.over(execution_id)
            raise
        finally:
            self.leave_line(execution_id)

    def over(self, execution_id: str, *, started: bool = False) -> None:
        """Its sandbox has started, or it will not be waited for any more."""
        timer = self._under_way.pop(execution_id, None)
        if timer is not None:
            timer.cancel()
            if started:
                self._at_once = min(self._most, self._at_once + 1 / self._at_once)
            self._give_turns()

    def no_room(self) -> None:
        """A sandbox that was made for a call found none."""
        now = self._clock()
        if now - self._shrunk_at >= SHRINK_SECONDS:
            self._shrunk_at = now
            self._at_once = max(1.0, self._at_once / 2)

    def state(self, execution_id: str) -> str:
        """What one in line waits for, as a part of a sentence; "" for another."""
        if execution_id not in self._line:
            return ""
        before = list(self._line).index(execution_id)
        made = len(self._under_way)
        return f"{made} are being made for calls, as many as may be now, and {before} calls come before it"

    def _give_turns(self) -> None:
        while self._line and len(self._under_way) < int(self._at_once):
            execution_id = next(iter(self._line))
            turn = self._line.pop(execution_id)
            if not turn.done():
                timer = asyncio.get_running_loop().call_later(HOLD_SECONDS, self.over, execution_id)
                self._under_way[execution_id] = timer
                turn.set_result(None)
