"""When calls come for sandboxes, of whichever replica: the one that sizes the pools has but a part of them."""

from __future__ import annotations

from collections.abc import Callable

from executor_api.backends.kubernetes import rehearsal
from executor_api.backends.kubernetes.snapshot import JobSnapshot, JobState

_NEW_SECONDS = 10.0
"""A Job that has a call and is older when it first shows tells nothing of now: we have only begun to listen."""


class Arrivals:
    """Tells ``came`` once of each sandbox for which a call has come, by what the watch shows of its Job.

    A short call leaves no other sign than that a Job which waited is deleted. So does whoever deletes one by hand, and
    another replica that keeps the pools: a new keeper starts with some demand too much, forgotten in half a minute.
    """

    def __init__(self) -> None:
        self.came: Callable[[JobSnapshot], None] = lambda _job: None
        self._waited: set[str] = set()
        self._told: set[str] = set()
        self._retired: set[str] = set()

    def look(self, job: JobSnapshot, age: float) -> None:
        """It has changed. ``age``: seconds since it was created."""
        if job.state is JobState.WAITING and not job.deleting and not job.gone:
            self._waited.add(job.name)
        elif self._tells_of_a_call(job, age):
            self._told.add(job.name)
            self.came(job)
        if job.gone:
            for names in (self._waited, self._told, self._retired):
                names.discard(job.name)

    def retire(self, name: str) -> None:
        """It goes without a call."""
        self._retired.add(name)

    def keep(self, name: str) -> None:
        """It was to be retired, and has a call."""
        self._retired.discard(name)

    def _tells_of_a_call(self, job: JobSnapshot, age: float) -> bool:
        if job.name in self._told or job.name in self._retired or job.execution_id == rehearsal.EXECUTION:
            return False
        return job.name in self._waited or not (job.deleting or job.gone or age > _NEW_SECONDS)
