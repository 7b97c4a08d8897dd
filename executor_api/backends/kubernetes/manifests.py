"""The Job of one sandbox: its template's skeleton with this sandbox's values set in the tree. Pure."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from math import ceil
from typing import Any

import orjson

from executor_api.backends.kubernetes import names
from executor_api.backends.kubernetes.job_template import Tree
from executor_api.backends.kubernetes.leaks import keep_off
from executor_api.backends.kubernetes.snapshot import JobState
from executor_api.domain.plan import SandboxResources
from executor_api.domain.quantity import parse_quantity
from executor_api.domain.template import Template
from executor_runner.protocol import GPUS_ENV, POD_ENV, PRELOAD_ENV, TOKEN_HASH_ENV

RING_SECONDS = 20
"""Between the runner's last deadline and the pod's, and between the pod's and the Job's: each ring leaves the inner one
time to end the call itself, because only the inner ones keep its output."""
PENDING_SECONDS = 86_400
"""How long one of the pool may find no room. A Job's deadline counts from its creation, and must not be what ends one
that started late: its pod's does, until a call moves the Job's."""
TERMINATION_SECONDS = 5
"""Least time between the kubelet's SIGTERM and SIGKILL; a template's own grace needs `LEAVE_SECONDS` more."""
LEAVE_SECONDS = 3
VOLUME_MARGIN = 1.1
"""A volume holds this much more than the disk limit: the runner watches the limit and ends the call with its output;
an eviction, the outer ring, would take the output along."""

_NVIDIA, _SHARED = "nvidia.com/", ".shared"
"""How names of GPU resources begin, and how NVIDIA's device plugin lets those end that pods share."""


@dataclass(frozen=True, slots=True)
class JobValues:
    """What differs from one sandbox to the next."""

    name: str
    namespace: str
    execution_id: str  # "" for one that waits
    service_id: str
    token_hash: str
    resources: SandboxResources
    deadline_seconds: int  # by when the runner has ended by itself, seconds after the pod's start
    digest: str
    state: JobState = JobState.CLAIMED
    keep_off: frozenset[str] = frozenset()  # nodes


def build_job(skeleton: Tree, template: Template, values: JobValues) -> Tree:
    """Set everything that is this sandbox's on a copy of the skeleton."""
    job = copy.deepcopy(skeleton)
    labels = _labels(template, values)
    _set_metadata(job, template, values, labels)
    spec = job["spec"]
    pod_deadline = values.deadline_seconds + RING_SECONDS
    pending = PENDING_SECONDS if values.state is JobState.WAITING else 0
    spec["activeDeadlineSeconds"] = job_deadline(values.deadline_seconds) + pending
    pod_metadata = spec["template"].setdefault("metadata", {})
    pod_metadata["labels"] = {**(pod_metadata.get("labels") or {}), **labels}
    _set_pod(spec["template"]["spec"], template, values, pod_deadline)
    if values.keep_off and values.resources.gpu_count:
        job["metadata"]["annotations"][names.KEEPS_OFF] = ",".join(sorted(values.keep_off))
        keep_off(spec["template"]["spec"], values.keep_off, strictly=values.state is JobState.WAITING)
    return job


def job_deadline(deadline_seconds: int) -> int:
    """The Job's ``activeDeadlineSeconds``, for a runner that has ended by itself after so many seconds."""
    return deadline_seconds + 2 * RING_SECONDS


def sandbox_digest(skeleton: Tree, template: Template, resources: SandboxResources) -> str:
    """Twelve hex digits that change with what a sandbox is made from, and with nothing else of its template."""
    neutral = JobValues("", "", "", "", "", resources, 0, digest="")
    text = orjson.dumps(build_job(skeleton, template, neutral), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:12]


def _labels(template: Template, values: JobValues) -> dict[str, str]:
    return {
        names.NAME: names.SANDBOX,
        names.MANAGED_BY: names.MANAGER,
        names.SERVICE: values.service_id,
        names.EXECUTION: values.execution_id,
        names.TEMPLATE: template.name,
        names.TEMPLATE_DIGEST: values.digest,
    }


def _set_metadata(job: Tree, template: Template, values: JobValues, labels: dict[str, str]) -> None:
    metadata = job.setdefault("metadata", {})
    metadata["name"] = values.name
    metadata["namespace"] = values.namespace
    queue = {names.QUEUE: template.queue} if template.queue else {}
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels, **queue, names.STATE: values.state}
    metadata["annotations"] = {
        **(metadata.get("annotations") or {}),
        names.START_SECONDS: f"{template.start_seconds:g}",
        names.KEEP_FINISHED: "false" if template.delete_finished else "true",
    }


def _set_pod(pod: Tree, template: Template, values: JobValues, deadline: int) -> None:
    pod["activeDeadlineSeconds"] = deadline
    pod["terminationGracePeriodSeconds"] = max(
        TERMINATION_SECONDS, ceil(template.grace_seconds) + LEAVE_SECONDS, pod.get("terminationGracePeriodSeconds", 0)
    )
    for field, value in _placement(template).items():
        pod[field] = value
    pod["nodeSelector"] = {**(pod.get("nodeSelector") or {}), **template.node_selector}
    tolerations = [item.model_dump(exclude_none=True) for item in template.tolerations]
    pod["tolerations"] = [*(pod.get("tolerations") or []), *tolerations]
    runner = pod["containers"][0]
    runner["resources"] = _resources(runner.get("resources") or {}, values.resources)
    runner["env"] = [*_environment(template, values), *(runner.get("env") or [])]
    size = str(ceil(values.resources.storage_bytes * VOLUME_MARGIN))
    for volume in pod.get("volumes") or []:
        if "emptyDir" in volume:
            volume["emptyDir"] = {"sizeLimit": size, **(volume["emptyDir"] or {})}


def _placement(template: Template) -> dict[str, Any]:
    fields = {
        "runtimeClassName": template.runtime_class,
        "priorityClassName": template.priority_class,
        "serviceAccountName": template.service_account,
        "hostUsers": template.host_users,
    }
    return {field: value for field, value in fields.items() if value is not None}


def _resources(written: Tree, asked: SandboxResources) -> Tree:
    limits = {"cpu": asked.cpu, "memory": asked.memory, "ephemeral-storage": asked.ephemeral_storage}
    if asked.gpu_count:
        limits[asked.gpu_resource] = str(asked.gpu_count)
    cpu = (written.get("requests") or {}).get("cpu", asked.cpu)
    lower = min(str(cpu), asked.cpu, key=parse_quantity)
    return {**written, "limits": {**(written.get("limits") or {}), **limits}, "requests": {**limits, "cpu": lower}}


def _environment(template: Template, values: JobValues) -> list[dict[str, Any]]:
    env = {TOKEN_HASH_ENV: values.token_hash, PRELOAD_ENV: ",".join(template.preload)}
    if not values.resources.gpu_count:
        # Images made for GPUs ask for all of them; where NVIDIA's runtime is the default they would get them.
        env["NVIDIA_VISIBLE_DEVICES"] = "void"
    elif not template.gpu.shared and _are_its_own(values.resources.gpu_resource):
        env[GPUS_ENV] = str(values.resources.gpu_count)
    pod = {"name": POD_ENV, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
    return [*({"name": name, "value": value} for name, value in env.items()), pod]


def _are_its_own(gpu_resource: str) -> bool:
    """Whether a pod has such GPUs to itself: of those that several take turns on, memory in use is not one pod's."""
    return gpu_resource.startswith(_NVIDIA) and not gpu_resource.endswith(_SHARED)
