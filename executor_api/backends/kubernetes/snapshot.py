"""Kubernetes objects reduced to the fields that are used: frozen, small, parsed from raw JSON. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from executor_api.backends.kubernetes import names
from executor_runner.protocol import GPUS_ENV

Raw = Mapping[str, Any]


class JobState(StrEnum):
    """What a Job of ours is for, as its label says."""

    WAITING = "waiting"  # in the pool
    CLAIMED = "claimed"  # for one execution; also what bears no label
    REUSED = "reused"  # for one tenant's calls, until it leaves

    @classmethod
    def of(cls, label: str | None) -> JobState:
        """The state that a label names."""
        return cls(label) if label in set(cls) else cls.CLAIMED


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that is true or false; unknown ones are left out."""

    kind: str
    true: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Terminated:
    """How a container ended."""

    exit_code: int
    reason: str
    message: str  # its termination message


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a container has not started."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSnapshot:
    """A pod at one moment. ``gone``: the object is deleted, and this is how it last was."""

    name: str
    uid: str
    job: str
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    ip: str | None = None
    ips: tuple[str, ...] = ()  # one of each IP family that it has
    node: str | None = None
    node_ip: str = ""
    started_at: float | None = None  # seconds since the epoch: from then on its deadline counts
    image: str | None = None
    conditions: tuple[Condition, ...] = ()
    waiting: Waiting | None = None
    running: bool = False
    terminated: Terminated | None = None
    deleting: bool = False
    gone: bool = False

    @property
    def key(self) -> str:
        """The name of its Job."""
        return self.job

    def condition(self, kind: str, *, true: bool) -> Condition | None:
        """The condition of this kind if it is true, or false, as asked."""
        return next((item for item in self.conditions if item.kind == kind and item.true == true), None)

    @property
    def ended(self) -> bool:
        """Nothing runs in it any more, or it is not there."""
        return self.gone or self.terminated is not None or self.phase in ("Succeeded", "Failed")

    @property
    def dialable(self) -> bool:
        """Its runner is running and has an address."""
        return self.running and self.ip is not None and not self.ended


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSnapshot:
    """A Job at one moment."""

    name: str
    uid: str
    execution_id: str
    template: str
    digest: str
    state: JobState
    created_at: float  # seconds since the epoch
    start_seconds: float | None
    deadline_seconds: float  # from its pod's start: then the kubelet ends it
    keep_finished: bool
    image: str
    deleting: bool
    conditions: tuple[Condition, ...]
    queue: str = ""
    suspended: bool = False
    has_gpus: bool = False  # of its own
    leaky: bool = False  # their memory has not come back
    leaked_on: str = ""  # the node of that; empty if only its pod tells
    keeps_off: frozenset[str] = frozenset()  # nodes
    gone: bool = False

    @property
    def key(self) -> str:
        """Its name."""
        return self.name

    @property
    def finished(self) -> bool:
        """Complete or failed."""
        return any(item.true and item.kind in ("Complete", "Failed") for item in self.conditions)


@dataclass(frozen=True, slots=True)
class EventSnapshot:
    """One event of an object."""

    reason: str
    message: str
    at: str  # RFC 3339: sorts as text


def parse_pod(pod: Raw) -> PodSnapshot:
    """Read a pod of one of our Jobs."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    container = _container_status(status)
    state = container.get("state") or {}
    return PodSnapshot(
        name=metadata["name"],
        uid=metadata["uid"],
        job=(metadata.get("labels") or {}).get(names.JOB_NAME, metadata["name"]),
        phase=status.get("phase") or "Pending",
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        ip=status.get("podIP") or None,
        ips=tuple(item["ip"] for item in status.get("podIPs") or [] if item.get("ip")),
        node_ip=status.get("hostIP") or "",
        node=pod.get("spec", {}).get("nodeName"),
        started_at=_epoch(status["startTime"]) if status.get("startTime") else None,
        image=container.get("image") or None,
        conditions=_conditions(status),
        waiting=_waiting(state),
        running="running" in state,
        terminated=_terminated(state),
        deleting="deletionTimestamp" in metadata,
    )


def parse_job(job: Raw) -> JobSnapshot:
    """Read one of our Jobs."""
    metadata = job["metadata"]
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    pod = job["spec"]["template"]["spec"]
    runner = pod["containers"][0]
    return JobSnapshot(
        name=metadata["name"],
        uid=metadata["uid"],
        execution_id=labels.get(names.EXECUTION, ""),
        template=labels.get(names.TEMPLATE, ""),
        digest=labels.get(names.TEMPLATE_DIGEST, ""),
        state=JobState.of(labels.get(names.STATE)),
        created_at=_epoch(metadata["creationTimestamp"]),
        start_seconds=_number(annotations.get(names.START_SECONDS)),
        deadline_seconds=pod.get("activeDeadlineSeconds", math.inf),
        keep_finished=annotations.get(names.KEEP_FINISHED) == "true",
        image=runner["image"],
        deleting="deletionTimestamp" in metadata,
        conditions=_conditions(job.get("status") or {}),
        queue=labels.get(names.QUEUE, ""),
        suspended=bool(job["spec"].get("suspend")),
        has_gpus=any(item["name"] == GPUS_ENV for item in runner.get("env") or ()),
        leaky=names.GPU_LEAK in labels,
        leaked_on=annotations.get(names.GPU_LEAK_NODE, ""),
        keeps_off=frozenset(filter(None, annotations.get(names.KEEPS_OFF, "").split(","))),
    )


def parse_events(listing: Raw) -> list[EventSnapshot]:
    """Read a list of events, newest first."""
    events = [
        EventSnapshot(
            reason=event.get("reason") or "",
            message=event.get("message") or "",
            at=event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "",
        )
        for event in listing["items"]
    ]
    return sorted(events, key=lambda event: event.at, reverse=True)


def _container_status(status: Raw) -> Raw:
    statuses: list[Raw] = status.get("containerStatuses") or []
    return next((item for item in statuses if item.get("name") == names.CONTAINER), {})


def _conditions(status: Raw) -> tuple[Condition, ...]:
    return tuple(
        Condition(item["type"], item["status"] == "True", item.get("reason") or "", item.get("message") or "")
        for item in status.get("conditions") or []
        if item["status"] in ("True", "False")
    )


def _waiting(state: Raw) -> Waiting | None:
    waiting = state.get("waiting")
    if waiting is None:
        return None
    return Waiting(waiting.get("reason") or "", waiting.get("message") or "")  # a kubelet that restarts tells neither


def _terminated(state: Raw) -> Terminated | None:
    ended = state.get("terminated")
    if ended is None:
        return None
    return Terminated(ended.get("exitCode", -1), ended.get("reason") or "", ended.get("message") or "")


def _epoch(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None  # somebody edited it
