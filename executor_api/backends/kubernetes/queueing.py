"""Jobs that a queue holds back, or takes the place of back: Kueue does both by suspending them. Pure but for events."""

from __future__ import annotations

from collections.abc import Sequence

from executor_api.backends.kubernetes.classify import Absent, Hope, Obstacle
from executor_api.backends.kubernetes.cluster import Cluster
from executor_api.backends.kubernetes.errors import trimmed
from executor_api.backends.kubernetes.snapshot import EventSnapshot, JobSnapshot
from executor_api.domain.outcome import Evidence, Reason

_STOPPED = "Stopped"
"""Reason of the event with which Kueue says on a Job why it was suspended."""


def held_back(job: JobSnapshot) -> Obstacle | None:
    """What a Job without a pod waits for, if it is suspended."""
    if not job.suspended:
        return None
    if job.queue:
        why = f"its Job waits in queue {job.queue!r} until Kueue admits it"
        return Obstacle(Evidence(Reason.QUOTA, why), Hope.LONG)
    why = "its Job is suspended, and starts once whoever did that, a queue for example, resumes it"
    return Obstacle(Evidence(Reason.START_TIMEOUT, why), Hope.LONG)


def taken_back(job: JobSnapshot, events: Sequence[EventSnapshot]) -> Evidence | None:
    """Why a Job lost the pod it had, if its queue did that; ``events`` are the Job's, newest first.

    By now it may be admitted again, and may have another pod.
    """
    stopped = next((event for event in events if event.reason == _STOPPED), None)
    if stopped is None:
        return Evidence(Reason.EVICTED, "its Job was suspended while it had a pod") if job.suspended else None
    preempted = "preempt" in stopped.message.lower()
    return Evidence(
        Reason.PREEMPTED if preempted else Reason.EVICTED, trimmed(f"its queue took its place back: {stopped.message}")
    )


async def or_queue(cluster: Cluster, found: Evidence | None, job: JobSnapshot | Absent) -> Evidence | None:
    """What was found out of the end of a sandbox; where that is no cause, its queue's doing, if it was that."""
    known = found is not None and found.reason is not Reason.SANDBOX_LOST
    if known or isinstance(job, Absent) or not (job.suspended or job.queue):
        return found
    return taken_back(job, await cluster.events("Job", job.name)) or found
