"""Why a sandbox did not start, or ended, from what the cluster shows. Pure: plain values in, evidence out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from executor_api.backends.kubernetes.errors import ForbiddenError, InvalidObjectError, KubernetesError, trimmed
from executor_api.backends.kubernetes.snapshot import Condition, EventSnapshot, JobSnapshot, PodSnapshot
from executor_api.domain.outcome import Evidence, Reason


class Hope(Enum):
    """How long a sandbox that can't start now may still come to start."""

    NONE = auto()  # never
    SHORT = auto()  # a hiccup would be over in seconds
    LONG = auto()  # as long as the template allows


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a sandbox from starting."""

    evidence: Evidence
    hope: Hope


_WAITING: dict[str, tuple[Reason, Hope]] = {
    "ErrImagePull": (Reason.IMAGE_PULL, Hope.SHORT),
    "ImagePullBackOff": (Reason.IMAGE_PULL, Hope.NONE),
    "ErrImageNeverPull": (Reason.IMAGE_PULL, Hope.NONE),
    "InvalidImageName": (Reason.IMAGE_PULL, Hope.NONE),
    "ImageInspectError": (Reason.IMAGE_PULL, Hope.NONE),
    "SignatureValidationFailed": (Reason.IMAGE_PULL, Hope.NONE),
    "RegistryUnavailable": (Reason.IMAGE_PULL, Hope.SHORT),
    "CreateContainerConfigError": (Reason.REJECTED_TEMPLATE, Hope.SHORT),
    "CreateContainerError": (Reason.REJECTED_TEMPLATE, Hope.SHORT),
    "RunContainerError": (Reason.REJECTED_TEMPLATE, Hope.NONE),
}
_PERMANENT_PULL = re.compile(
    r"not found|no such|does not exist|manifest unknown|unauthorized|denied|forbidden", re.IGNORECASE
)

_DISRUPTIONS: dict[str, Reason] = {
    "EvictionByEvictionAPI": Reason.EVICTED,
    "PreemptionByScheduler": Reason.PREEMPTED,
    "DeletionByTaintManager": Reason.NODE_LOST,
    "DeletionByPodGC": Reason.NODE_LOST,
    "TerminationByKubelet": Reason.EVICTED,
}
_POD_REASONS: dict[str, Reason] = {
    "Evicted": Reason.EVICTED,
    "Preempting": Reason.PREEMPTED,
    "NodeLost": Reason.NODE_LOST,
    "NodeShutdown": Reason.NODE_LOST,
    "Shutdown": Reason.NODE_LOST,
    "Terminated": Reason.NODE_LOST,
    "DeadlineExceeded": Reason.TIMEOUT,
    "NodeAffinity": Reason.UNSCHEDULABLE,
    "UnexpectedAdmissionError": Reason.UNSCHEDULABLE,
}
NO_ROOM = frozenset({Reason.UNSCHEDULABLE, Reason.QUOTA})
"""Why a sandbox does not start now, and may later."""
_ADMISSION = re.compile(r"OutOf\w+")
_STORAGE = re.compile(r"ephemeral[- ](?:local )?storage|EmptyDir volume", re.IGNORECASE)
_SIGKILL_EXIT = 137


def obstacle(pod: PodSnapshot) -> Obstacle | None:
    """What keeps this pod from running, if it shows anything."""
    if pod.waiting is not None and pod.waiting.reason in _WAITING:
        reason, hope = _WAITING[pod.waiting.reason]
        if reason is Reason.IMAGE_PULL and _PERMANENT_PULL.search(pod.waiting.message):
            hope = Hope.NONE
        return Obstacle(Evidence(reason, _sentence(pod.waiting.reason, pod.waiting.message)), hope)
    unscheduled = pod.condition("PodScheduled", true=False)
    if unscheduled is not None and unscheduled.reason in ("Unschedulable", "SchedulerError"):
        return Obstacle(Evidence(Reason.UNSCHEDULABLE, trimmed(unscheduled.message)), Hope.LONG)
    return None


def pod_refused(events: Sequence[EventSnapshot]) -> Obstacle | None:
    """Why the Job controller can't make the pod, from the Job's events, newest first."""
    failure = next((event for event in events if event.reason == "FailedCreate"), None)
    if failure is None:
        return None
    message = trimmed(failure.message)
    if "exceeded quota" in failure.message:
        return Obstacle(Evidence(Reason.QUOTA, message), Hope.NONE)
    if "forbidden" in failure.message or "is invalid" in failure.message:
        return Obstacle(Evidence(Reason.REJECTED_TEMPLATE, message), Hope.NONE)
    return Obstacle(Evidence(Reason.START_TIMEOUT, message), Hope.LONG)


def refused(error: KubernetesError) -> Evidence | None:
    """Why the API server does not take a Job, if that is about this Job; None if it is about the service."""
    if isinstance(error, ForbiddenError) and "exceeded quota" in error.message:
        return Evidence(Reason.QUOTA, error.message)
    if isinstance(error, InvalidObjectError) or (isinstance(error, ForbiddenError) and not by_rbac(error)):
        return Evidence(Reason.REJECTED_TEMPLATE, f"the API server refuses the Job: {error.message}")
    return None


def by_rbac(error: ForbiddenError) -> bool:
    """Whether a 403 is about what we may do, not about the object."""
    return " cannot " in error.message or "being terminated" in error.message


def not_started(pod: PodSnapshot | None, events: Sequence[EventSnapshot], seconds: float) -> Evidence:
    """The sandbox had that many seconds to start; say what it was waiting for."""
    found = obstacle(pod) if pod is not None else pod_refused(events)
    if found is not None:
        return found.evidence
    last = f"; last event: {trimmed(events[0].message)}" if events else ""
    where = "its Job has no pod yet" if pod is None else f"its pod is {pod.phase}"
    return Evidence(Reason.START_TIMEOUT, f"the sandbox did not start within {seconds:g} s: {where}{last}")


class Absent(Enum):
    """Why there is no snapshot of a Job."""

    DELETED = auto()
    UNKNOWN = auto()  # the API server did not answer


def ending(pod: PodSnapshot | None, job: JobSnapshot | Absent) -> Evidence:
    """How a sandbox without a report ended."""
    found = _by_container(pod) or outside(pod, job) or _by_exit(pod) or _by_silence(pod)
    return found or Evidence(Reason.SANDBOX_LOST, _lost(pod))


def outside(pod: PodSnapshot | None, job: JobSnapshot | Absent) -> Evidence | None:
    """Who or what outside ended it, if that shows."""
    return _by_pod_reason(pod) or _by_disruption(pod) or _by_job(job) or _by_deletion(pod, job)


def shows_cause(pod: PodSnapshot | None) -> bool:
    """Whether all that will show of an ending from outside shows: the condition is set before the deletion."""
    return pod is None or pod.gone or pod.deleting or bool(_by_pod_reason(pod) or _by_disruption(pod))


def _by_container(pod: PodSnapshot | None) -> Evidence | None:
    if pod is None or pod.terminated is None or pod.terminated.reason != "OOMKilled":
        return None
    return Evidence(Reason.OUT_OF_MEMORY, "the kernel killed the sandbox: its memory limit was exceeded")


def _by_pod_reason(pod: PodSnapshot | None) -> Evidence | None:
    if pod is None or not pod.reason:
        return None
    if pod.reason == "Evicted" and _STORAGE.search(pod.message):
        return Evidence(Reason.STORAGE_LIMIT, trimmed(pod.message))
    reason = Reason.UNSCHEDULABLE if _ADMISSION.fullmatch(pod.reason) else _POD_REASONS.get(pod.reason)
    return None if reason is None else Evidence(reason, _sentence(pod.reason, pod.message))


def _by_disruption(pod: PodSnapshot | None) -> Evidence | None:
    condition = pod and pod.condition("DisruptionTarget", true=True)
    if not isinstance(condition, Condition):
        return None
    reason = _DISRUPTIONS.get(condition.reason, Reason.EVICTED)
    if condition.reason == "TerminationByKubelet" and "shutdown" in condition.message:
        reason = Reason.NODE_LOST
    return Evidence(reason, _sentence(condition.reason, condition.message))


def _by_job(job: JobSnapshot | Absent) -> Evidence | None:
    if isinstance(job, Absent):
        return None
    if not any(item.true and item.reason == "DeadlineExceeded" for item in job.conditions):
        return None
    return Evidence(Reason.TIMEOUT, "the Job's activeDeadlineSeconds ended it, the outermost of its deadlines")


def _by_deletion(pod: PodSnapshot | None, job: JobSnapshot | Absent) -> Evidence | None:
    if job is Absent.DELETED or (isinstance(job, JobSnapshot) and job.deleting):
        return Evidence(Reason.SANDBOX_LOST, "the sandbox's Job was deleted before the call ended")
    if pod is not None and (pod.deleting or pod.gone):
        return Evidence(Reason.SANDBOX_LOST, f"pod {pod.name} was deleted before the call ended")
    return None


def _by_exit(pod: PodSnapshot | None) -> Evidence | None:
    ended = pod and pod.terminated
    if not ended:
        return None
    if ended.exit_code == _SIGKILL_EXIT:
        return Evidence(Reason.SANDBOX_LOST, "the sandbox was killed (SIGKILL) and left no report")
    return Evidence(
        Reason.SANDBOX_LOST, f"the runner left with exit code {ended.exit_code} and no report; see the pod's log"
    )


def _by_silence(pod: PodSnapshot | None) -> Evidence | None:
    """The pods of a node that stopped reporting are marked as not ready, long before they are deleted.

    A kubelet that marks one gives a reason; the node's controller gives none.
    """
    unready = pod and pod.condition("Ready", true=False)
    if pod is None or not unready or unready.reason or pod.ended or not pod.running:
        return None
    return Evidence(Reason.NODE_LOST, f"node {pod.node} of pod {pod.name} does not report any more")


def _lost(pod: PodSnapshot | None) -> str:
    if pod is None:
        return "the sandbox's pod is not there any more, and nobody saw how it ended"
    if not pod.ended:
        return f"the runner in pod {pod.name} does not answer any more"
    return f"pod {pod.name} ended ({pod.phase}) and left no report"


def _sentence(reason: str, message: str) -> str:
    return trimmed(f"{reason}: {message}" if message else reason)
