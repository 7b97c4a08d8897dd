"""What the service needs from the place where executions are kept. SQLite is the default (`sqlite_store`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from executor_api.domain.execution import Event, Execution
from executor_api.domain.outcome import Status


@dataclass(frozen=True, slots=True)
class ListFilter:
    """Which executions to list. Empty fields match all."""

    statuses: frozenset[Status] = frozenset()
    reason: str | None = None
    template: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    created_after: float | None = None  # seconds since the epoch
    created_before: float | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page, newest first; ``next_cursor`` is None on the last."""

    executions: tuple[Execution, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Created:
    """Answer of `Store.create`: the record, and whether the idempotency key had made it before."""

    execution: Execution
    existed: bool


class Store(Protocol):
    """Executions and their events, durable once a method has returned. Safe for concurrent tasks of one loop."""

    async def open(self) -> None:
        """Open or create. Raises `ConfigurationError` with the fix: not writable, second writer, newer schema."""
        ...

    async def close(self) -> None:
        """Commit what is pending and close."""
        ...

    async def create(self, execution: Execution) -> Created:
        """Record a new execution. Same tenant, key and digest as an earlier one: that record.

        Raises `IdempotencyConflictError` for the same key with another digest.
        """
        ...

    async def find_earlier(self, execution: Execution) -> Execution | None:
        """What `create` would find for its idempotency key, without creating: for when nothing new can be taken.

        Raises `IdempotencyConflictError` for the same key with another digest.
        """
        ...

    async def save(self, execution: Execution, events: Sequence[Event] = ()) -> None:
        """Replace the record and append its events, in one transaction."""
        ...

    async def append(self, execution_id: str, events: Sequence[Event]) -> None:
        """Append events."""
        ...

    async def get(self, execution_id: str) -> Execution | None:
        """The record, whoever's it is."""
        ...

    async def events(self, execution_id: str, after: int = 0) -> list[Event]:
        """Events numbered above ``after``, in order."""
        ...

    async def page(self, tenant: str, where: ListFilter, limit: int, cursor: str | None = None) -> Page:
        """A tenant's executions, newest first. Raises `InvalidRequestError` for a cursor that isn't ours."""
        ...

    async def unfinished(self) -> list[Execution]:
        """Every execution without an outcome, oldest first: what a restarted service takes up."""
        ...

    async def prune(self, finished_before: float, keep_bytes: int) -> int:
        """Delete finished executions older than the instant, and the oldest beyond the size; return how many."""
        ...
