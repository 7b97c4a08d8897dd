"""One thing that is wrong with a machine, as it is told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from executor_api.processes.triage.facts import Identity


class Severity(IntEnum):
    """How bad it is."""

    NOTICE = 1
    WARNING = 2
    CRITICAL = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``do`` begins with the command to type, if there is one; ``culprit`` is who made it."""

    kind: str
    severity: Severity
    what: str
    who: str
    do: str
    culprit: Identity | None = None
