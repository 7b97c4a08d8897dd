"""Replicas of one service that take calls in turn: who is in the rotation, what moved, what each counted."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Mapping
from typing import Any

from calls import Caller, Kind, Reply
from pool import Pool
from wire import Client

PATIENCE = 60.0
"""Seconds until a call that no replica takes counts as broken."""
_LOOK_SECONDS = 0.5
_COUNTERS = ("hits", "waits", "misses", "conflicts")


class Replica:
    """One process that serves, and its counters as they were last seen: they are gone when it is."""

    def __init__(self, url: str, api_key: str, kind: Kind, call_timeout: float) -> None:
        self.url = url
        self.client = Client(url, api_key)
        self.caller = Caller(self.client, kind, call_timeout)
        self.pool = Pool(self.client, str(kind.fields["template"]))
        self._first: Mapping[str, Any] = {}
        self._last: Mapping[str, Any] = {}

    @property
    def counted(self) -> dict[str, int]:
        """What became of its claims between the first look and the last."""
        return {name: self._last.get(name, 0) - self._first.get(name, 0) for name in _COUNTERS}

    async def look(self) -> None:
        """Read its counters, if it is there."""
        with contextlib.suppress(OSError):
            self._last = await self.pool.look()
            self._first = self._first or self._last


class Rotation:
    """Sends each call to one of ``replicas``, and on to the next if that one is gone, with the same Idempotency-Key."""

    def __init__(self, replicas: list[Replica]) -> None:
        self.replicas = replicas
        self.gone: list[Replica] = []
        self.ended = 0
        """Calls that have come to an end."""
        self.moves = 0
        """How often a call went on to another replica."""
        self.cut = 0
        """Those of them that had been sent when their replica went, or was about to go."""

    def replace(self, place: int, fresh: Replica) -> None:
        """Let a fresh replica take the place of one that is gone."""
        self.gone.append(self.replicas[place])
        self.replicas[place] = fresh

    async def call(self, number: int) -> Reply:
        """Run one call to its end, at whichever replica lives."""
        word, intended = secrets.token_hex(6), time.perf_counter()
        while True:
            caller = self.replicas[number % len(self.replicas)].caller
            reply = await caller.call(intended, word, key=word)
            if reply.status not in (0, 503) or time.perf_counter() - intended > PATIENCE:
                self.ended += 1
                return reply
            self.moves += 1
            self.cut += reply.status == 0 and not reply.body.startswith(b"ConnectionRefusedError")
            number += 1
            await asyncio.sleep(0.1)

    async def watch_counters(self) -> None:
        """Read all counters again and again, until cancelled: of one that is killed, little is lost."""
        while True:
            await asyncio.gather(*(replica.look() for replica in self.replicas))
            await asyncio.sleep(_LOOK_SECONDS)

    def print_counted(self) -> None:
        """Moves, and counters by replica and together."""
        print(f"calls moved to another replica {self.moves} times, {self.cut} of them after they had been sent")
        total = dict.fromkeys(_COUNTERS, 0)
        for replica in (*self.gone, *self.replicas):
            print(f"  {replica.url}: {replica.counted}{' until it was killed' * (replica in self.gone)}")
            total = {name: total[name] + count for name, count in replica.counted.items()}
        print(f"claims of all: {total}")

    def close(self) -> None:
        """Close what is idle."""
        for replica in (*self.gone, *self.replicas):
            replica.client.close()
