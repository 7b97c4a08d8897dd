"""Which executions are forgotten: the old ones, and where there are too many bytes, those of whoever holds most."""

from __future__ import annotations

from typing import Protocol

TOGETHER = 50
"""Executions deleted in one transaction, so that calls' writes come between."""


class Shelf(Protocol):
    """The finished executions of a store. What deletes does so to `TOGETHER` at most, oldest first."""

    async def delete_old(self, finished_before: float) -> int:
        """Delete some of those that finished before the instant; return how many."""

    async def bytes_by_tenant(self) -> dict[str, int]:
        """How much each tenant holds."""

    async def delete_oldest(self, tenant: str, enough: int) -> tuple[int, int]:
        """Delete some of the tenant's until they had ``enough`` bytes; return how many, and their bytes."""


async def prune(shelf: Shelf, finished_before: float, keep_bytes: int) -> int:
    """Delete what is too old, then what is too much; return how many.

    Too much is taken from the tenant that holds most, until another one does: nobody loses results to those of a
    tenant that keeps more.
    """
    deleted, more = 0, True
    while more:
        count = await shelf.delete_old(finished_before)
        deleted, more = deleted + count, count == TOGETHER
    held = await shelf.bytes_by_tenant()
    while (excess := sum(held.values()) - keep_bytes) > 0:
        tenant = max(held, key=lambda name: held[name])
        next_most = max((size for name, size in held.items() if name != tenant), default=0)
        count, freed = await shelf.delete_oldest(tenant, min(excess, max(1, held[tenant] - next_most)))
        deleted, held[tenant] = deleted + count, held[tenant] - freed
        if not count:
            del held[tenant]  # another process was faster
    return deleted
