"""Waiting until a sandbox's runner can be dialled, or until it is clear that this won't happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from executor_api.backends.base import SandboxFailedError, SandboxTimings
from executor_api.backends.kubernetes.classify import (
    NO_ROOM,
    Absent,
    Hope,
    Obstacle,
    ending,
    not_started,
    obstacle,
    outside,
    pod_refused,
)
from executor_api.backends.kubernetes.cluster import Cluster
from executor_api.backends.kubernetes.queueing import held_back, or_queue
from executor_api.backends.kubernetes.snapshot import JobSnapshot, PodSnapshot
from executor_api.domain.outcome import Evidence, Reason

SHORT_SECONDS = 5.0
"""How long a problem that may be a hiccup may last."""


class Startup:
    """Watches one sandbox start. ``created`` and ``deadline`` are on the cluster's clock.

    ``no_room`` is told if the cluster has none for it now.
    """

    def __init__(
        self, cluster: Cluster, job: str, created: float, deadline: float, no_room: Callable[[], None] | None = None
    ) -> None:
        self._cluster = cluster
        self._job = job
        self._created = created
        self._deadline = deadline
        self._scheduled: float | None = None
        self._started: float | None = None
        self._obstructed: float | None = None
        self._no_room = no_room

    @property
    def timings(self) -> SandboxTimings:
        """Milliseconds from creation to a node, and from there to running."""
        schedule = None if self._scheduled is None else (self._scheduled - self._created) * 1000
        start = None if self._started is None or self._scheduled is None else self._started - self._scheduled
        return SandboxTimings(schedule=schedule, start=None if start is None else start * 1000)

    async def wait(self) -> PodSnapshot:
        """Return the pod once it can be dialled. Raises `SandboxFailedError`."""
        looks = _looks()
        next_look = self._cluster.clock() + next(looks)
        while True:
            pod, now = self._cluster.pods.get(self._job), self._cluster.clock()
            self._take_times(pod, now)
            if pod is not None and pod.dialable:
                return pod
            if pod is not None and (pod.ended or pod.deleting):
                raise SandboxFailedError(await self._ended(pod))
            self._check(None if pod is None else obstacle(pod), now)
            if now >= self._deadline:
                raise SandboxFailedError(await self._too_late(pod))
            if pod is None and now >= next_look:
                await self._look_at_job(now)
                next_look = now + next(looks)
            until = min(self._deadline, self._patience_ends(), next_look if pod is None else self._deadline)
            await self._cluster.pods.changed(self._job, pod, max(0.0, until - self._cluster.clock()))

    def _take_times(self, pod: PodSnapshot | None, now: float) -> None:
        if pod is not None and pod.node is not None and self._scheduled is None:
            self._scheduled = now
        if pod is not None and pod.running and self._started is None:
            self._started = now

    def _check(self, found: Obstacle | None, now: float) -> None:
        """Give up if the obstacle has lasted longer than there is hope."""
        if found is not None and found.evidence.reason in NO_ROOM and self._no_room is not None:
            self._no_room()
            self._no_room = None  # told once
        if found is None or found.hope is Hope.LONG:
            self._obstructed = None
            return
        self._obstructed = now if self._obstructed is None else self._obstructed
        if found.hope is Hope.NONE or now >= self._patience_ends():
            raise SandboxFailedError(found.evidence)

    def _patience_ends(self) -> float:
        return self._deadline if self._obstructed is None else self._obstructed + SHORT_SECONDS

    async def _look_at_job(self, now: float) -> None:
        """The pod is late: see whether its Job is still there and can make one."""
        job = await self._cluster.job(self._job)
        if isinstance(job, Absent):
            if job is Absent.DELETED:
                raise SandboxFailedError(
                    Evidence(Reason.SANDBOX_LOST, "the sandbox's Job was deleted before it started")
                )
            return
        evidence = outside(None, job)
        if evidence is not None:
            raise SandboxFailedError(evidence)
        self._check(held_back(job) or pod_refused(await self._cluster.events("Job", self._job)), now)

    async def _ended(self, pod: PodSnapshot) -> Evidence:
        job = await self._cluster.job(self._job)
        found = ending(pod, job)
        return await or_queue(self._cluster, found, job) or found

    async def _too_late(self, pod: PodSnapshot | None) -> Evidence:
        kind, name = ("Job", self._job) if pod is None else ("Pod", pod.name)
        job = await self._cluster.job(self._job) if pod is None else Absent.UNKNOWN
        held = held_back(job) if isinstance(job, JobSnapshot) else None
        if held is not None:
            return held.evidence
        events = await self._cluster.events(kind, name)
        return not_started(pod, events, self._deadline - self._created)


def _looks() -> Iterator[float]:
    """Seconds between looks at a Job without a pod: soon at first, since a quota shows at once."""
    delay = 0.5
    while True:
        yield delay
        delay = min(delay * 2, 5.0)
