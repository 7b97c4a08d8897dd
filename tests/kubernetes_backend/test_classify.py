"""Pods as the API server writes them, and the evidence they are: plain objects in, values out."""

from __future__ import annotations

from typing import Any

import pytest

from executor_api.backends.kubernetes.classify import Absent, Hope, ending, obstacle
from executor_api.backends.kubernetes.snapshot import PodSnapshot, parse_pod
from executor_api.domain.outcome import Reason

_UNREADY = {"type": "Ready", "status": "False"}


def _pod(state: dict[str, Any] | None = None, **status: Any) -> PodSnapshot:
    if state is not None:
        status["containerStatuses"] = [{"name": "runner", "state": state}]
    return parse_pod({"metadata": {"name": "p", "uid": "u"}, "spec": {}, "status": status})


@pytest.mark.parametrize(
    ("waiting", "message", "reason", "hope"),
    [
        ("ErrImagePull", "dial tcp: i/o timeout", Reason.IMAGE_PULL, Hope.SHORT),
        ("ErrImagePull", "registry/x:1: not found", Reason.IMAGE_PULL, Hope.NONE),
        ("ErrImagePull", "401 Unauthorized", Reason.IMAGE_PULL, Hope.NONE),
        ("ImagePullBackOff", "Back-off pulling image", Reason.IMAGE_PULL, Hope.NONE),
        ("ErrImageNeverPull", "", Reason.IMAGE_PULL, Hope.NONE),
        ("InvalidImageName", "", Reason.IMAGE_PULL, Hope.NONE),
        ("CreateContainerConfigError", "secret not found", Reason.REJECTED_TEMPLATE, Hope.SHORT),
    ],
)
def test_what_keeps_a_container_from_starting(waiting: str, message: str, reason: Reason, hope: Hope) -> None:
    """What can't get better fails at once, what may be a hiccup has some seconds."""
    found = obstacle(_pod({"waiting": {"reason": waiting, "message": message}}))
    assert found is not None
    assert (found.evidence.reason, found.hope) == (reason, hope)
    assert waiting in found.evidence.message


def test_ordinary_waiting_is_no_obstacle() -> None:
    """A container that is being created, and a pod that is not scheduled yet, are no problems."""
    assert obstacle(_pod({"waiting": {"reason": "ContainerCreating"}})) is None
    assert obstacle(_pod({"waiting": {}})) is None  # as a kubelet writes it that has just begun
    assert obstacle(_pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}])) is None


@pytest.mark.parametrize(
    ("pod", "reason", "part"),
    [
        (_pod({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), Reason.OUT_OF_MEMORY, "memory limit"),
        (_pod({"terminated": {"exitCode": 137, "reason": "Error"}}), Reason.SANDBOX_LOST, "SIGKILL"),
        (_pod({"terminated": {"exitCode": 1, "reason": "Error"}}), Reason.SANDBOX_LOST, "exit code 1"),
        (_pod(phase="Failed", reason="OutOfcpu", message="Node didn't have enough"), Reason.UNSCHEDULABLE, "OutOfcpu"),
        (_pod(phase="Failed", reason="UnexpectedAdmissionError"), Reason.UNSCHEDULABLE, "UnexpectedAdmission"),
        (_pod(phase="Failed", reason="Preempting"), Reason.PREEMPTED, "Preempting"),
        (_pod(phase="Failed", reason="Terminated", message="node shutdown"), Reason.NODE_LOST, "node shutdown"),
        (_pod(phase="Failed", reason="Evicted", message='Usage of EmptyDir volume "x"'), Reason.STORAGE_LIMIT, "Usage"),
        (_pod({"running": {}}, phase="Running"), Reason.SANDBOX_LOST, "does not answer"),
        (_pod({"running": {}}, phase="Running", conditions=[_UNREADY]), Reason.NODE_LOST, "does not report"),
        (
            _pod({"running": {}}, phase="Running", conditions=[{**_UNREADY, "reason": "ContainersNotReady"}]),
            Reason.SANDBOX_LOST,
            "does not answer",
        ),
        (None, Reason.SANDBOX_LOST, "nobody saw"),
    ],
)
def test_how_a_sandbox_ended(pod: PodSnapshot | None, reason: Reason, part: str) -> None:
    """Each end is told as what it was, and what nobody knows is told as that."""
    evidence = ending(pod, Absent.UNKNOWN)
    assert (evidence.reason, part in evidence.message) == (reason, True), evidence


def test_long_words_of_others_are_cut() -> None:
    """A message from outside can't flood a log or an answer."""
    found = obstacle(_pod({"waiting": {"reason": "ErrImagePull", "message": "x" * 10_000}}))
    assert found is not None
    assert len(found.evidence.message) <= 256
