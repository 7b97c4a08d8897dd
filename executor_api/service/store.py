"""What the service needs from the place where executions are kept. SQLite is the default (`sqlite_store`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from executor_api.domain.execution import Event, Execution
from executor_api.domain.outcome import Status
from executor_api.domain.pool import Share
from executor_api.errors import ExecutorError

EVENTS_AT_ONCE = 8
"""So many are read for somebody who follows an execution: one who takes none of them must not hold them all."""


class TakenOverError(ExecutorError):
    """Another replica drives the execution now: whoever drove it before must let it be."""


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
    """One page, newest first; ``next_cursor`` is None on the last.

    Their requests have template, isolation and labels, and perhaps nothing to run; their outcomes perhaps neither
    value, exception nor what was skipped of artifacts.
    """

    executions: tuple[Execution, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Created:
    """Answer of `Store.create`: the record, and whether the idempotency key had made it before."""

    execution: Execution
    existed: bool


@dataclass(frozen=True, slots=True)
class Change:
    """Something happened to an execution. ``for_driver``: to be acted on by whoever drives it."""

    execution_id: str
    for_driver: bool


@dataclass(frozen=True, slots=True)
class Orders:
    """What others did to executions driven here."""

    cancel: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()  # taken over


class Replicas(Protocol):
    """The processes that share a store, as one of them sees it. Every execution has at most one that drives it.

    All methods raise `UnavailableError`.
    """

    async def beat(self) -> Share:
        """Show that this replica lives; returns its place among those that do."""
        ...

    async def take_over(self, silent_seconds: float, known: Collection[str], before: float) -> list[Execution]:
        """Make ours, and return oldest first, the unfinished executions that nobody drives.

        Those of replicas that gave no sign of life for so long, those let go, and our own that were created before
        an instant and are not known here: an answer of the store was lost.
        """
        ...

    async def orders(self, driven: Collection[str]) -> Orders:
        """What others did to these executions."""
        ...

    async def request_cancel(self, execution_id: str) -> None:
        """Tell whoever drives it that a client wants its end. A finished one stays as it is."""
        ...

    async def let_go(self) -> None:
        """Leave everything unfinished to the others, at once."""
        ...

    def changes(self) -> AsyncIterator[Change]:
        """What happens, as it happens; some of it may be missed."""
        ...


class Store(Protocol):
    """Executions and their events, durable once a method has returned. Safe for concurrent tasks of one loop."""

    @property
    def replicas(self) -> Replicas:
        """Those that share it."""
        ...

    async def open(self) -> None:
        """Open or create. Raises `ConfigurationError` with the fix: not writable, second writer, newer schema."""
        ...

    async def close(self) -> None:
        """Commit what is pending and close."""
        ...

    async def create(self, execution: Execution, events: Sequence[Event] = ()) -> Created:
        """Record a new execution and its events. Same tenant, key and digest as an earlier one: that record.

        Raises `IdempotencyConflictError` for the same key with another digest.
        """
        ...

    async def find_earlier(self, execution: Execution) -> Execution | None:
        """What `create` would find for its idempotency key, without creating: for when nothing new can be taken.

        Raises `IdempotencyConflictError` for the same key with another digest.
        """
        ...

    async def save(self, execution: Execution, events: Sequence[Event] = ()) -> None:
        """Replace the record and append its events, in one transaction. Raises `NotFoundError`, `TakenOverError`."""
        ...

    async def append(self, execution_id: str, events: Sequence[Event]) -> None:
        """Append events. Raises `NotFoundError` and `TakenOverError`."""
        ...

    async def get(self, execution_id: str, tenant: str | None = None) -> Execution | None:
        """The record, if it is the tenant's; anybody's if none is named."""
        ...

    async def events(self, execution_id: str, after: int = 0, most: int | None = None) -> list[Event]:
        """Events numbered above ``after``, in order: the first ``most`` of them, or all."""
        ...

    async def page(self, tenant: str, where: ListFilter, limit: int, cursor: str | None = None) -> Page:
        """A tenant's executions, newest first. Raises `InvalidRequestError` for a cursor that isn't ours."""
        ...

    async def prune(self, finished_before: float, keep_bytes: int) -> int:
        """Delete finished executions older than the instant, and the oldest beyond the size; return how many."""
        ...
