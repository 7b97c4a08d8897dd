"""What must hold of every Job we create, whoever wrote its template: restricted Pod Security, at most one run. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from executor_api.backends.kubernetes import names

_ONCE = {"completions": 1, "parallelism": 1, "backoffLimit": 0, "podReplacementPolicy": "Failed"}
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_SECCOMP = ("RuntimeDefault", "Localhost")
_HOST = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")
_FAIL_JOB = {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
_WORKSPACE = "/sandbox"

Raw = Mapping[str, Any]


def violations(job: Raw) -> list[str]:
    """Sentences that name each wrong field and what it must be; empty if the Job is fine."""
    try:
        pod = job["spec"]["template"]["spec"]
        return [*_of_job(job), *_of_pod(pod), *_of_containers(pod)]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        return [f"it is no batch/v1 Job: {error!r} where an object of another kind belongs"]


def _of_job(job: Raw) -> Iterator[str]:
    if (job.get("apiVersion"), job.get("kind")) != ("batch/v1", "Job"):
        yield "apiVersion and kind must be batch/v1 and Job"
    spec = job["spec"]
    for field, value in _ONCE.items():
        if spec.get(field) != value:
            yield f"spec.{field} must be {value}, or a call could run twice"
    if _FAIL_JOB not in ((spec.get("podFailurePolicy") or {}).get("rules") or []):
        yield "spec.podFailurePolicy must have the action FailJob for the condition DisruptionTarget, status 'True'"
    if not isinstance(spec.get("ttlSecondsAfterFinished"), int):
        yield "spec.ttlSecondsAfterFinished must be a number, or finished Jobs stay for ever"
    if spec.get("suspend"):
        yield "spec.suspend must not be set"


def _of_pod(pod: Raw) -> Iterator[str]:
    if pod.get("restartPolicy") != "Never":
        yield "restartPolicy must be Never, or a call could run twice"
    for field in ("automountServiceAccountToken", "enableServiceLinks"):
        if pod.get(field) is not False:
            yield f"{field} must be false"
    for field in _HOST:
        if pod.get(field):
            yield f"{field} must not be true"
    for volume in pod.get("volumes") or []:
        kinds = volume.keys() - {"name"} - _VOLUMES
        if kinds:
            yield f"volume {volume.get('name')!r}: {', '.join(sorted(kinds))} is not allowed"


def _of_containers(pod: Raw) -> Iterator[str]:
    containers = [*(pod.get("initContainers") or []), *pod["containers"]]
    if pod["containers"][0].get("name") != names.CONTAINER:
        yield f"the first container must be named {names.CONTAINER!r}"
    mounts = [mount.get("mountPath") for mount in pod["containers"][0].get("volumeMounts") or []]
    read_only = (pod["containers"][0].get("securityContext") or {}).get("readOnlyRootFilesystem")
    if read_only and _WORKSPACE not in mounts:
        yield f"container {names.CONTAINER!r} has a read-only root and must mount a volume at {_WORKSPACE}"
    for container in containers:
        yield from _of_container(container, pod.get("securityContext") or {})


def _of_container(container: Raw, pod_context: Raw) -> Iterator[str]:
    own = container.get("securityContext") or {}
    context = {**pod_context, **own}
    at = f"container {container.get('name')!r}: securityContext"
    if own.get("privileged"):
        yield f"{at}.privileged must not be true"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{at}.allowPrivilegeEscalation must be false"
    if (own.get("capabilities") or {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
        yield f"{at}.capabilities must drop [ALL] and add none"
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        yield f"{at}.runAsNonRoot must be true (there or in the pod's), and runAsUser not 0"
    if (context.get("seccompProfile") or {}).get("type") not in _SECCOMP:
        yield f"{at}.seccompProfile.type must be {' or '.join(_SECCOMP)}"
    if any(port.get("hostPort") for port in container.get("ports") or []):
        yield f"container {container.get('name')!r}: hostPort must not be set"
