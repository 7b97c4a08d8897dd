"""Those who wait, tenant by tenant in turn; within one tenant first come first served. No I/O, every step O(1)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Each has a tenant and a key, which is unique while it waits."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, OrderedDict[str, T]] = OrderedDict()  # the first one is next
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def tenants(self) -> int:
        """How many tenants have somebody waiting."""
        return len(self._tenants)

    def has_place(self, tenant: str, places: int) -> bool:
        """Whether one more of the tenant may wait: not all places are taken, or it holds less than its share of them.

        So nobody who waits is sent away for another, nor does a tenant's crowd keep the others out; tenants that come
        late stand beyond the places, and the first has all of them while it is alone.
        """
        own, sharing = len(self._tenants.get(tenant, ())), len(self._tenants) + (tenant not in self._tenants)
        return self._length < places or own * sharing < places

    def add(self, tenant: str, key: str, item: T) -> None:
        """Go behind all others of the tenant; a tenant of whom nobody waited has its turn last."""
        self._tenants.setdefault(tenant, OrderedDict())[key] = item
        self._length += 1

    def remove(self, tenant: str, key: str) -> bool:
        """Leave; False if it was not waiting."""
        waiting = self._tenants.get(tenant)
        if waiting is None or waiting.pop(key, None) is None:
            return False
        self._length -= 1
        if not waiting:
            del self._tenants[tenant]
        return True

    def pop(self) -> T:
        """The next one, whose tenant's turn comes again after all others'. Raises ``KeyError`` if nobody waits."""
        tenant, waiting = self._tenants.popitem(last=False)
        _, item = waiting.popitem(last=False)
        self._length -= 1
        if waiting:
            self._tenants[tenant] = waiting
        return item

    def ahead(self, tenant: str, key: str) -> int | None:
        """How many have their turn before this one as things stand; None if it does not wait. O(n), for people."""
        own = list(self._tenants.get(tenant, ()))
        if key not in own:
            return None
        place, order = own.index(key), list(self._tenants)
        turn = order.index(tenant)
        others = (min(len(self._tenants[name]), place + (at < turn)) for at, name in enumerate(order) if at != turn)
        return place + sum(others)
