"""Kills the replica that leads, again and again, and times how long nobody does."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet import Fleet
    from rotation import Replica, Rotation

NOTICED_SECONDS = 15.0
"""By then another must lead."""
_PATIENCE = 60.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Succession:
    """One leader's end. ``seconds``: from its SIGKILL until the Lease named another, infinite if it never did."""

    ended: int
    """Calls that had come to an end before."""
    dead: str
    heir: str
    seconds: float


class Succeeding:
    """Kills leaders one after the other; in the place of each a fresh replica starts once another one leads."""

    def __init__(self, fleet: Fleet, rotation: Rotation, enroll: Callable[[str], Replica]) -> None:
        self._fleet = fleet
        self._rotation = rotation
        self._enroll = enroll
        self._turn = asyncio.Lock()
        self.seen: list[Succession] = []

    async def kill_leader(self) -> None:
        """SIGKILL it, wait until another leads, start a fresh one. Raises ``TimeoutError`` if nobody leads."""
        async with self._turn:
            dead, place = await self._leader()
            await self._rotation.replicas[place].look()
            ended, killed = self._rotation.ended, time.perf_counter()
            await asyncio.to_thread(self._fleet.services[place].kill)
            heir = await self._heir(dead, killed)
            self.seen.append(Succession(ended, dead, heir, time.perf_counter() - killed if heir else math.inf))
            fresh = await asyncio.to_thread(self._fleet.start)
            self._fleet.services[place] = fresh
            self._rotation.replace(place, self._enroll(fresh.url))

    async def _leader(self) -> tuple[str, int]:
        async with asyncio.timeout(_PATIENCE):
            while True:
                holder = await asyncio.to_thread(self._fleet.holder)
                place = self._fleet.place_of(holder)
                if place is not None:
                    return holder, place
                await asyncio.sleep(_LOOK_SECONDS)

    async def _heir(self, dead: str, killed: float) -> str:
        while time.perf_counter() < killed + _PATIENCE:
            holder = await asyncio.to_thread(self._fleet.holder)
            if holder not in ("", dead):
                return holder
            await asyncio.sleep(_LOOK_SECONDS)
        return ""


def marks(calls: int, kills: int) -> set[int]:
    """Numbers of the calls at which a leader is killed: at even distances from the first call and the last."""
    return {calls * (number + 1) // (kills + 1) for number in range(kills)}


def print_successions(seen: Sequence[Succession], calls: int) -> None:
    """A line for each."""
    for item in seen:
        print(f"leader {item.dead} killed after {item.ended} of {calls} calls: ", end="")
        print(f"{item.heir or 'nobody'} led {item.seconds:.2f} s later, looked at every {_LOOK_SECONDS} s")


def complaints(seen: Sequence[Succession], wanted: int, calls: int) -> list[str]:
    """What should not be: a leader who was not killed, or not during the calls, or not replaced in time."""
    found = [] if len(seen) == wanted else [f"{len(seen)} leaders were killed, not {wanted}"]
    for item in seen:
        if item.ended >= calls:
            found.append(f"leader {item.dead} was killed after all calls had ended")
        if item.seconds > NOTICED_SECONDS:
            found.append(f"leader {item.dead} was not replaced within {NOTICED_SECONDS:.0f} s")
    return found
