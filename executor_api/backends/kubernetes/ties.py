"""What a sandbox has to do with the pool it came from, and with the tenant it stays for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from executor_api.backends.base import Claim
from executor_api.backends.kubernetes import names
from executor_api.backends.kubernetes.cluster import Cluster
from executor_api.backends.kubernetes.job_factory import reuse_deadline
from executor_api.backends.kubernetes.manifests import job_deadline
from executor_api.backends.kubernetes.shelf import Kept, Shelf
from executor_api.backends.kubernetes.snapshot import JobState
from executor_api.domain.plan import Plan

MARK_SECONDS = 0.5
"""How long a call must run before its Job is marked: most are over by then, and the Job is deleted. Until it is
marked, other replicas take the sandbox for free and learn better from its runner."""
MARK_PATIENCE_SECONDS = 3600.0
"""How long an API server that is away is tried again: while the Job bears no mark, the pool counts one too many."""
LULL_SECONDS = 0.25
"""How long a used sandbox stays: taking a pod down costs its node 0.2 s of a core, which the next call would miss."""


class Ties:
    """What a sandbox has to do with others of its kind. These are those of one made for a single call."""

    def refused(self) -> None:
        """It did not take its call."""

    def accepted(self) -> None:
        """Its runner has the call."""

    def unused(self) -> bool:
        """No call was sent to it; True if it waits for another one."""
        return False

    async def kept(self, *, sound: bool) -> bool:
        """The call's outcome is stored; True if the sandbox stays for another call."""
        del sound
        return False


@dataclass(frozen=True, slots=True)
class Place:
    """A sandbox's place in its pool."""

    mark: Callable[[], Coroutine[Any, Any, object]]
    """Tell other replicas that it has a call."""
    refused: Callable[[], None]
    """It is another's, or has died."""
    give_back: Callable[[], None]
    """It waits for a call as before."""


class PooledTies(Ties):
    """A sandbox of the pool. Its Job is marked as claimed if the call lasts."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._timer: asyncio.TimerHandle | None = None
        self._marking: asyncio.Task[object] | None = None

    def refused(self) -> None:
        """It is another's, or has died."""
        self._place.refused()

    def accepted(self) -> None:
        """Mark it a little later."""
        self._timer = asyncio.get_running_loop().call_later(MARK_SECONDS, self._begin)

    def unused(self) -> bool:
        """The pool has it again."""
        self._place.give_back()
        return True

    async def kept(self, *, sound: bool) -> bool:
        """It served one call, and goes, a little later than the calls that come right behind."""
        del sound
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.sleep(LULL_SECONDS)
        return False

    def _begin(self) -> None:
        self._marking = asyncio.get_running_loop().create_task(self._place.mark())


class TenantTies(Ties):
    """A sandbox that stays for its tenant's next call. One that has a ``place`` in a pool leaves it with the first."""

    def __init__(self, kept: Kept, claim: Claim, shelf: Shelf, place: Place | None = None) -> None:
        self._kept = kept
        self._claim = claim
        self._shelf = shelf
        self._place = place
        self._marking: asyncio.Task[object] | None = None

    def refused(self) -> None:
        """It has died, or left; or it is another's, who may have a call in it."""
        if self._kept.calls:
            self._shelf.discard(self._kept)
        elif self._place is not None:
            self._place.refused()

    def accepted(self) -> None:
        """It is the tenant's from now on."""
        self._kept.calls += 1
        self._kept.last = self._claim.execution_id
        if self._place is not None:
            self._marking = asyncio.get_running_loop().create_task(self._place.mark())

    def unused(self) -> bool:
        """The pool has it again, or the tenant as before."""
        if self._place is None:
            return self._shelf.put(self._kept, self._claim.plan)
        self._place.give_back()
        return True

    async def kept(self, *, sound: bool) -> bool:
        """Whether it stays."""
        return sound and self._shelf.put(self._kept, self._claim.plan)


@dataclass(frozen=True, slots=True)
class Mark:
    """What the mark on a claimed Job says."""

    state: JobState
    execution_id: str
    deadline_seconds: int  # of the Job, from its own start


def claimed_mark(execution_id: str, plan: Plan, age: float) -> Mark:
    """For a Job of that age in seconds whose call begins now."""
    longest = ceil(age + plan.timeout_seconds + plan.template.grace_seconds)
    return Mark(JobState.CLAIMED, execution_id, job_deadline(longest))


def reused_mark(execution_id: str, plan: Plan, age: float) -> Mark:
    """For a Job of that age whose first call for reuse begins now."""
    return Mark(JobState.REUSED, execution_id, job_deadline(ceil(age) + reuse_deadline(plan)))


def mark_operations(mark: Mark) -> list[Mapping[str, Any]]:
    """The JSON patch: it fails where the Job is marked already."""
    state, execution = (f"/metadata/labels/{name.replace('/', '~1')}" for name in (names.STATE, names.EXECUTION))
    return [
        {"op": "test", "path": state, "value": JobState.WAITING},
        {"op": "replace", "path": state, "value": mark.state},
        {"op": "replace", "path": execution, "value": mark.execution_id},
        {"op": "replace", "path": "/spec/activeDeadlineSeconds", "value": mark.deadline_seconds},
    ]


async def put_mark(cluster: Cluster, job: str, mark: Mark) -> bool:
    """Tell other replicas, and whoever looks at the cluster. False if that did not work, which changes nothing else."""
    return await cluster.patch_job(job, mark_operations(mark), MARK_PATIENCE_SECONDS)
