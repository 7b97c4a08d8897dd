"""The executions that finished last, kept in memory: most answers are fetched right after the end."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from executor_api.domain.execution import Execution, Output
from executor_api.service.timeline import Overhead

MOST_ENTRIES = 256
MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished execution. ``output`` is None where it was too large to keep, or its events are in the store only."""

    record: Execution
    output: Output | None
    overhead: Overhead | None

    @property
    def size(self) -> int:
        """Bytes of output held."""
        if self.output is None:
            return 0
        return len(self.output.stdout) + len(self.output.stderr) + sum(map(len, self.output.artifacts.values()))


class Recent:
    """Bounded by number and by bytes of output; the oldest goes first."""

    def __init__(self, most_entries: int = MOST_ENTRIES, most_bytes: int = MOST_BYTES) -> None:
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._entries: OrderedDict[str, Finished] = OrderedDict()
        self._bytes = 0

    def add(self, finished: Finished) -> None:
        """Keep one more."""
        self._entries[finished.record.id] = finished
        self._bytes += finished.size
        while len(self._entries) > self._most_entries or self._bytes > self._most_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.size

    def get(self, execution_id: str) -> Finished | None:
        """The execution, if it is still here."""
        return self._entries.get(execution_id)
