"""Those who wait, tenant by tenant in turn; within one tenant first come first served. No I/O.

A tenant may have to wait for its own sake, whoever else goes: each step costs as much as there are such tenants.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
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

    def of(self, tenant: str) -> int:
        """How many of the tenant wait."""
        return len(self._tenants.get(tenant, ()))

    def has_place(self, tenant: str, places: int) -> bool:
        """Whether one more of the tenant may wait: not all places are taken, or it holds less than its share of them.

        So nobody who waits is sent away for another, nor does a tenant's crowd keep the others out; tenants that come
        late stand beyond the places, and the first has all of them while it is alone.
        """
        own, sharing = self.of(tenant), len(self._tenants) + (tenant not in self._tenants)
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

    def pop(self, may_go: Callable[[str], bool], fits: Callable[[T], bool]) -> T | None:
        """The next one that fits, of a tenant that may go, and then has its turn after all others; None if none does.

        O(n) in those that do not fit.
        """
        for tenant in filter(may_go, self._tenants):
            found = next(((key, item) for key, item in self._tenants[tenant].items() if fits(item)), None)
            if found is not None:
                self._tenants.move_to_end(tenant)
                self.remove(tenant, found[0])
                return found[1]
        return None

    def ahead(self, tenant: str, key: str, may_go: Callable[[str], bool]) -> int | None:
        """How many have their turn before this one as things stand; None if it does not wait. O(n), for people.

        Tenants that may not go are not ahead of others.
        """
        own = list(self._tenants.get(tenant, ()))
        if key not in own:
            return None
        place, order = own.index(key), [name for name in self._tenants if name == tenant or may_go(name)]
        turn = order.index(tenant)
        others = (min(len(self._tenants[name]), place + (at < turn)) for at, name in enumerate(order) if at != turn)
        return place + sum(others)
