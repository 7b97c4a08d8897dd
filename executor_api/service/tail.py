"""The newest events of an unfinished execution, and what all of its events add up to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from executor_api.domain.execution import Event, EventKind, Output
from executor_api.domain.output import assemble, decode_gap


@dataclass(slots=True)
class Tally:
    """Running totals over an execution's events."""

    stdout: int = 0
    stderr: int = 0
    stdout_dropped: int = 0
    stderr_dropped: int = 0
    journal_offset: int = 0

    def add(self, event: Event) -> None:
        """Count one more event."""
        if event.kind is EventKind.STDOUT:
            self.stdout += len(event.data)
        elif event.kind is EventKind.STDERR:
            self.stderr += len(event.data)
        elif event.kind is EventKind.GAP:
            self._add_gap(*decode_gap(event.data))
        self.journal_offset = event.journal_offset or self.journal_offset

    def _add_gap(self, stream: EventKind, dropped: int) -> None:
        if stream is EventKind.STDOUT:
            self.stdout_dropped += dropped
        else:
            self.stderr_dropped += dropped


class Tail:
    """Events from some number on without a gap; all that are not stored are among them.

    ``stored`` are the events of an execution from before a restart: they count, and stay in the store only.
    """

    def __init__(self, stored: Iterable[Event]) -> None:
        self.tally = Tally()
        self.last = 0
        """Number of the newest event; 0 before there is one."""
        self.unstored_bytes = 0
        self._events: list[Event] = []
        self._output_gone = False  # some output is in the store only
        for event in stored:
            self.last = event.number
            self._output_gone |= event.kind is not EventKind.STATUS
            self.tally.add(event)
        self.stored = self.last
        """Number of the newest event that the store has."""

    @property
    def first(self) -> int:
        """Number of the oldest event that is here, or would be."""
        return self._events[0].number if self._events else self.stored + 1

    def append(self, kind: EventKind, data: bytes, journal_offset: int | None) -> None:
        """Add an event."""
        self.last += 1
        event = Event(self.last, kind, data, journal_offset)
        self._events.append(event)
        self.unstored_bytes += len(data)
        self.tally.add(event)

    def above(self, number: int) -> list[Event]:
        """Those with a higher number that are here."""
        return [event for event in self._events if event.number > number]

    def unstored(self) -> list[Event]:
        """Those that the store does not have."""
        return self.above(self.stored)

    def finishing(self) -> Event:
        """The event that will end it."""
        return Event(self.last + 1, EventKind.FINISHED, b"")

    def mark_stored(self, batch: list[Event]) -> None:
        """The store has these, too."""
        if batch:
            self.stored = batch[-1].number
            self.unstored_bytes -= sum(len(event.data) for event in batch)

    def forget_stored(self) -> None:
        """Free what the store has."""
        forgotten = (event for event in self._events if event.number <= self.stored)
        self._output_gone |= any(event.kind is not EventKind.STATUS for event in forgotten)
        self._events = self.unstored()

    def end(self, events: list[Event]) -> None:
        """These are the newest, and no other will come."""
        self._events = events
        self.last = events[-1].number

    def whole_output(self) -> Output | None:
        """The output so far if all of it is here."""
        return None if self._output_gone else assemble(self._events)
