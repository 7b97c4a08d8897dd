"""List and watch, for ever: three nested generators, each with one job and one kind of failure.

`_watch_once` makes one request; `_watch_from_listing` lists, then watches on from the last resource version through
cut connections until that version is gone; `watch_forever` lists again, and owns the waiting between failures.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from executor_api.backends.kubernetes.client import CONNECT_SECONDS, ApiClient
from executor_api.backends.kubernetes.errors import GoneError, KubernetesError, UnreachableError, status_error
from executor_api.errors import ConfigurationError

SILENCE_SECONDS = 90.0
"""A watch this silent is dead: the API server sends a bookmark every minute."""
_SHORTEST, _LONGEST = 240, 480
"""Bounds of how long one watch is asked to last, in seconds; spread, so that clients don't return all at once."""
_FIRST_DELAY, _LAST_DELAY = 0.05, 2.0

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Listed:
    """Everything there is now."""

    objects: list[Object]


@dataclass(frozen=True, slots=True)
class Changed:
    """One object as it is now or, if ``deleted``, as it last was."""

    object: Object
    deleted: bool


@dataclass(frozen=True, slots=True)
class Watching:
    """The stream runs, it has just opened or sent a bookmark: what is known is what there is."""


@dataclass(frozen=True, slots=True)
class Troubled:
    """The stream is interrupted and will go on by itself; what is known grows old meanwhile."""

    error: KubernetesError | ConfigurationError


@dataclass(frozen=True, slots=True)
class Collection:
    """What to watch: the path of a collection and a label selector; ``spread`` gives random numbers in [0, 1).

    ``restarted`` is told why a watch has to be opened again.
    """

    client: ApiClient
    path: str
    selector: str
    spread: Callable[[], float]
    restarted: Callable[[str], None]


Event = Listed | Changed | Watching | Troubled


async def watch_forever(collection: Collection) -> AsyncIterator[Event]:
    """Yield listings and changes until cancelled."""
    delays = _delays(collection)
    while True:
        try:
            async for event in _watch_from_listing(collection):
                if isinstance(event, Changed):  # a listing alone may be followed by Gone, again and again
                    delays = _delays(collection)
                yield event
        except (KubernetesError, ConfigurationError) as error:
            collection.restarted("error")
            yield Troubled(error)
        await asyncio.sleep(next(delays))


async def _watch_from_listing(collection: Collection) -> AsyncIterator[Event]:
    """List once and watch on from there; ends when the version is gone. Raises what the listing raises."""
    listing = await collection.client.get(collection.path, {"labelSelector": collection.selector}, patience=0)
    yield Listed(listing["items"])
    version: str = listing["metadata"]["resourceVersion"]
    delays = _delays(collection)
    while True:
        try:
            async for event in _watch_once(collection, version):
                if event is not None:
                    version = event["object"]["metadata"]["resourceVersion"]
                    delays = _delays(collection)
                if event is None or event["type"] == "BOOKMARK":
                    yield Watching()
                else:
                    yield Changed(event["object"], event["type"] == "DELETED")
            collection.restarted("closed")
        except GoneError:
            collection.restarted("gone")
            return
        except UnreachableError as error:
            collection.restarted("cut")
            yield Troubled(error)
        await asyncio.sleep(next(delays))


async def _watch_once(collection: Collection, version: str) -> AsyncIterator[Object | None]:
    """Make one watch request; yield None once it is open, then its events. Raises `GoneError` wherever it shows."""
    lasting = _SHORTEST + int(collection.spread() * (_LONGEST - _SHORTEST))
    params = {
        "watch": "true",
        "labelSelector": collection.selector,
        "resourceVersion": version,
        "allowWatchBookmarks": "true",
        "timeoutSeconds": str(lasting),
    }
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
    async with collection.client.open("GET", collection.path, params=params, timeout=timeout) as response:
        yield None
        async for line in response.content:
            try:
                event = orjson.loads(line)
            except orjson.JSONDecodeError:
                raise UnreachableError("the watch was cut in the middle of an event") from None
            if event["type"] == "ERROR":
                raise status_error(event["object"])
            yield event


def _delays(collection: Collection) -> Iterator[float]:
    """Growing waits with jitter."""
    delay = _FIRST_DELAY
    while True:
        yield delay * (0.5 + collection.spread())
        delay = min(2 * delay, _LAST_DELAY)
