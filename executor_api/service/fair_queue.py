"""Those who wait, tenant by tenant in turn; within one tenant first come first served. No I/O.

A tenant may have to wait for its own sake, whoever else goes, and so may all of a kind: each step costs as much as
there are such tenants, and kinds of theirs.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class _Place(NamedTuple, Generic[T]):
    number: int  # the higher, the later it came
    item: T


class FairQueue(Generic[T]):
    """Each has a tenant, a kind, and a key, which is unique while it waits."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, dict[str, OrderedDict[str, _Place[T]]]] = OrderedDict()  # the first one is next
        self._length = 0
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return self._length

    @property
    def tenants(self) -> int:
        """How many tenants have somebody waiting."""
        return len(self._tenants)

    def of(self, tenant: str) -> int:
        """How many of the tenant wait."""
        return sum(map(len, self._tenants.get(tenant, {}).values()))

    def has_place(self, tenant: str, places: int) -> bool:
        """Whether one more of the tenant may wait: not all places are taken, or it holds less than its share of them.

        So nobody who waits is sent away for another, nor does a tenant's crowd keep the others out; tenants that come
        late stand beyond the places, and the first has all of them while it is alone.
        """
        own, sharing = self.of(tenant), len(self._tenants) + (tenant not in self._tenants)
        return self._length < places or own * sharing < places

    def add(self, tenant: str, kind: str, key: str, item: T) -> None:
        """Go behind all others of the tenant; a tenant of whom nobody waited has its turn last."""
        waiting = self._tenants.setdefault(tenant, {}).setdefault(kind, OrderedDict())
        waiting[key] = _Place(next(self._numbers), item)
        self._length += 1

    def remove(self, tenant: str, kind: str, key: str) -> bool:
        """Leave; False if it was not waiting."""
        kinds = self._tenants.get(tenant, {})
        if kind not in kinds or kinds[kind].pop(key, None) is None:
            return False
        self._length -= 1
        if not kinds[kind]:
            del kinds[kind]
        if not kinds:
            del self._tenants[tenant]
        return True

    def pop(self, may_go: Callable[[str], bool], fits: Callable[[str], bool]) -> T | None:
        """The next one whose tenant may go and whose kind fits; its tenant has its turn after all others then."""
        for tenant in filter(may_go, self._tenants):
            kinds = self._tenants[tenant]
            firsts = ((kind, *next(iter(kinds[kind].items()))) for kind in filter(fits, kinds))
            found = min(firsts, key=lambda first: first[2].number, default=None)
            if found is not None:
                kind, key, place = found
                self._tenants.move_to_end(tenant)
                self.remove(tenant, kind, key)
                return place.item
        return None

    def ahead(
        self, tenant: str, kind: str, key: str, may_go: Callable[[str], bool], fits: Callable[[str], bool]
    ) -> int | None:
        """How many have their turn before this one as things stand; None if it does not wait. O(n), for people.

        Tenants that may not go are not ahead of others, nor are other kinds that don't fit.
        """
        kinds = self._tenants.get(tenant, {})
        if kind not in kinds or key not in kinds[kind]:
            return None
        own = kinds[kind][key]

        def passing(name: str) -> Iterator[int]:
            for its_kind, waiting in self._tenants[name].items():
                if its_kind == kind or fits(its_kind):
                    yield from (place.number for place in waiting.values())

        place = sum(number < own.number for number in passing(tenant))
        order = [name for name in self._tenants if name == tenant or may_go(name)]
        turn = order.index(tenant)
        others = (
            min(sum(1 for _ in passing(name)), place + (at < turn)) for at, name in enumerate(order) if at != turn
        )
        return place + sum(others)
