"""Nodes where a call's GPU memory has not come back. Its Job stays for a while, marked, and so tells every replica.

Whoever has mended the node deletes the Job: that ends it at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from executor_api.backends.kubernetes import names
from executor_api.backends.kubernetes.snapshot import JobSnapshot, JobState, PodSnapshot

QUARANTINE_SECONDS = 600
"""How long pools keep off a node. It may have mended by then; if not, what the next call there leaves is found, too."""

_LABEL = f"/metadata/labels/{names.GPU_LEAK.replace('/', '~1')}"
_NODE = f"/metadata/annotations/{names.GPU_LEAK_NODE.replace('/', '~1')}"


class Leaks:
    """What the watches tell of them."""

    def __init__(self) -> None:
        self._nodes: dict[str, str] = {}  # by Job

    @property
    def nodes(self) -> frozenset[str]:
        """Those to keep off now."""
        return frozenset(self._nodes.values())

    def look(self, job: JobSnapshot | None, pod: PodSnapshot | None) -> None:
        """Take note of a Job and its pod, which may be gone long before the Job: whoever drains a node deletes it."""
        if job is None:
            return
        if not job.leaky or job.gone:
            self._nodes.pop(job.name, None)
        elif node := job.leaked_on or (pod is not None and pod.node):
            self._nodes[job.name] = node

    def make_unfit(self, job: JobSnapshot, pod: PodSnapshot | None) -> bool:
        """Whether a sandbox that waits is on such a node, or still keeps off one that is none any more."""
        if not job.has_gpus:
            return False
        if pod is None or pod.node is None:
            return bool(job.keeps_off - self.nodes)
        return pod.node in self._nodes.values()

    def sentences(self) -> tuple[str, ...]:
        """For those who look at a pool."""
        return tuple(
            f"it keeps off node {node}, where memory of a GPU did not come back after a call; once that is mended, "
            f"delete Job {job}"
            for job, node in self._nodes.items()
        )


def mark_operations(node: str | None) -> list[Mapping[str, Any]]:
    """The JSON patch that keeps the Job of such a call on this node, as no pool's and no tenant's any more."""
    return [
        {"op": "add", "path": _LABEL, "value": "true"},
        *([{"op": "add", "path": _NODE, "value": node}] if node else []),
        {"op": "add", "path": f"/metadata/labels/{names.STATE.replace('/', '~1')}", "value": JobState.CLAIMED},
        {"op": "add", "path": "/spec/ttlSecondsAfterFinished", "value": QUARANTINE_SECONDS},
    ]


def keep_off(pod: dict[str, Any], nodes: frozenset[str], *, strictly: bool) -> None:
    """Have the scheduler avoid these nodes; if not ``strictly``, only as long as there are others."""
    fields = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in sorted(nodes)]
    affinity = pod["affinity"] = dict(pod.get("affinity") or {})
    rules = affinity["nodeAffinity"] = dict(affinity.get("nodeAffinity") or {})
    if strictly:
        required = rules.get("requiredDuringSchedulingIgnoredDuringExecution") or {"nodeSelectorTerms": [{}]}
        terms = [
            {**term, "matchFields": [*(term.get("matchFields") or []), *fields]}
            for term in required["nodeSelectorTerms"]
        ]
        rules["requiredDuringSchedulingIgnoredDuringExecution"] = {**required, "nodeSelectorTerms": terms}
    else:
        preferred = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or []
        rule = {"weight": 100, "preference": {"matchFields": fields}}
        rules["preferredDuringSchedulingIgnoredDuringExecution"] = [*preferred, rule]
