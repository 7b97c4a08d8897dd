"""The objects of the fake API server: versions, a log of changes to watch, and what deleting means."""

from __future__ import annotations

import asyncio
import itertools
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]


class Objects:
    """Objects by resource and name. Every change has a version and wakes the watches."""

    def __init__(self) -> None:
        self.version = 100
        self.oldest = 0
        """Versions below this are compacted: watching from there is Gone."""
        self.log: list[tuple[int, str, str, Object]] = []
        self.changed = asyncio.Condition()
        self._store: dict[tuple[str, str], Object] = {}
        self._uids = itertools.count(1)

    def get(self, resource: str, name: str) -> Object | None:
        """The object, or None."""
        return self._store.get((resource, name))

    def all(self, resource: str) -> list[Object]:
        """All objects of a resource."""
        return [item for (kind, _), item in self._store.items() if kind == resource]

    async def put(self, resource: str, item: Object) -> Object:
        """Create or replace."""
        key = (resource, item["metadata"]["name"])
        kind = "MODIFIED" if key in self._store else "ADDED"
        item["metadata"].setdefault("uid", f"uid-{next(self._uids)}")
        item["metadata"].setdefault("creationTimestamp", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
        self._store[key] = item
        await self._record(kind, resource, item)
        return item

    async def remove(self, resource: str, name: str) -> None:
        """Delete at once."""
        item = self._store.pop((resource, name), None)
        if item is not None:
            await self._record("DELETED", resource, item)

    def compact(self) -> None:
        """Forget the history: the next watch from any earlier version is Gone."""
        self.oldest = self.version

    async def _record(self, kind: str, resource: str, item: Object) -> None:
        async with self.changed:
            self.version += 1
            item["metadata"]["resourceVersion"] = str(self.version)
            self.log.append((self.version, kind, resource, deepcopy(item)))
            self.changed.notify_all()


def matches(item: Object, selector: str) -> bool:
    """Whether an object has the labels of an equality selector."""
    labels = item["metadata"].get("labels") or {}
    pairs = (part.split("=", 1) for part in selector.split(",") if part)
    return all(labels.get(name) == value for name, value in pairs)
