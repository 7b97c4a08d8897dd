"""What an execution's status events tell: which status it had from when on, and what led to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from executor_api.domain.execution import Event, EventKind, Execution
from executor_api.domain.outcome import Status


@dataclass(frozen=True, slots=True)
class Step:
    """One status event. ``at``: seconds since the epoch; ``note``: what led to it where that is odd, for readers."""

    status: Status
    at: float
    note: str = ""


_decode = msgspec.json.Decoder(Step).decode


def encode_step(record: Execution, at: float, note: str = "") -> bytes:
    """Data of a STATUS event: the record's status as it is, and where it got its sandbox as soon as that is known."""
    known: dict[str, object] = {"status": record.status, "at": at}
    if record.start is not None:
        known |= {"sandbox": record.sandbox, "start": record.start}
    if note:
        known["note"] = note
    return msgspec.json.encode(known)


def steps(events: Iterable[Event]) -> tuple[Step, ...]:
    """The status events among these."""
    return tuple(_decode(event.data) for event in events if event.kind is EventKind.STATUS)
