"""Names we give to things in the cluster. Labels are part of what operators select by: they are only ever added."""

from __future__ import annotations

NAME = "app.kubernetes.io/name"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "executor-api"
SANDBOX = "executor-sandbox"
SERVICE = "executor-api/service"
EXECUTION = "executor-api/execution-id"
STATE = "executor-api/state"
"""Label of a Job: `snapshot.JobState`. A claim changes it by a JSON patch that tests it first."""
TEMPLATE = "executor-api/template"
TEMPLATE_DIGEST = "executor-api/template-digest"
QUEUE = "kueue.x-k8s.io/queue-name"
"""Kueue's label of a Job, with the LocalQueue that it is to wait in."""

START_SECONDS = "executor-api/start-seconds"
"""Annotation of a Job: how long it may take to start, for a service that finds it after a restart."""
KEEPS_OFF = "executor-api/keeps-off"
"""Annotation of a Job: nodes, separated by commas, that its pod must not or should not run on."""
GPU_LEAK = "executor-api/gpu-leak"
"""Label of a Job, ``"true"``: GPU memory of its call did not come back. As long as it is there, pools keep off its
node."""
GPU_LEAK_NODE = "executor-api/gpu-leak-node"
"""Annotation of such a Job: which node that is, for a service that starts when its pod is gone."""
KEEP_FINISHED = "executor-api/keep-finished"
"""Annotation of a Job, ``"true"``: leave it to its TTL when it is finished."""

JOB_NAME = "batch.kubernetes.io/job-name"
"""The Job controller's label on a pod."""
CONTAINER = "runner"


def jobs_path(namespace: str) -> str:
    """Path of the Jobs of a namespace."""
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"


def pods_path(namespace: str) -> str:
    """Path of the pods of a namespace."""
    return f"/api/v1/namespaces/{namespace}/pods"


def events_path(namespace: str) -> str:
    """Path of the events of a namespace."""
    return f"/api/v1/namespaces/{namespace}/events"


def selector(service_id: str) -> str:
    """Label selector of everything that one service made."""
    return f"{MANAGED_BY}={MANAGER},{SERVICE}={service_id}"
