"""The Job that is sent: its values, its rings of deadlines, and what no template may change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import validate

from executor_api.backends.kubernetes import names
from executor_api.backends.kubernetes.job_template import built_in_source, load_skeleton, to_yaml
from executor_api.backends.kubernetes.manifests import JobValues, build_job
from executor_api.backends.kubernetes.restrictions import violations
from executor_api.backends.kubernetes.snapshot import JobState
from executor_api.domain.plan import plan
from executor_api.domain.request import ExecutionRequest
from executor_api.domain.template import GpuAllowance, Template, Toleration
from executor_api.errors import ConfigurationError
from executor_runner.protocol import GPUS_ENV
from executor_runner.protocol.tokens import token_hash

HOSTILE = 'a"b\\c\n{{ 7*7 }} \x00 \x7f \x85 \u2028 \U0001f600 ${x}: - #'


def _job(template: Template, **request: Any) -> dict[str, Any]:
    planned = plan(ExecutionRequest(code="1", template=template.name, **request), {template.name: template})
    values = JobValues(
        name="x-1",
        namespace="ns",
        execution_id="e-1",
        service_id="s",
        token_hash=token_hash("t"),
        resources=planned.resources,
        deadline_seconds=planned.deadline_seconds,
        digest="d",
    )
    return build_job(load_skeleton(template, "image:1"), template, values)


def _keeping_off(skeleton: dict[str, Any], state: JobState, gpus: int) -> dict[str, Any]:
    template = Template(name="t", gpu=GpuAllowance(max_count=1))
    resources = {"gpu": {"count": gpus}}
    planned = plan(ExecutionRequest(code="1", template="t", resources=resources), {"t": template})
    values = JobValues("x-1", "ns", "", "s", "h", planned.resources, 60, "d", state, frozenset({"node-2", "node-1"}))
    job = build_job(skeleton, template, values)
    validate(job, "1.37", strict=True)
    return job


def _pod(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


def test_built_in_template_makes_a_valid_job() -> None:
    """The Job fits Kubernetes' own schema and our restrictions, with everything a template can ask for."""
    template = Template(
        name="full",
        runtime_class="gvisor",
        host_users=False,
        node_selector={"pool": "sandbox"},
        tolerations=(Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),),
        priority_class="high",
        queue="team-a",
        service_account="sandbox",
        gpu=GpuAllowance(count=2, max_count=4),
        preload=("json", "math"),
    )
    job = _job(template)
    validate(job, "1.37", strict=True)
    assert violations(job) == []
    pod = _pod(job)
    assert (pod["runtimeClassName"], pod["hostUsers"], pod["nodeSelector"]) == ("gvisor", False, {"pool": "sandbox"})
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert (pod["priorityClassName"], pod["serviceAccountName"]) == ("high", "sandbox")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    pod_labels = job["spec"]["template"]["metadata"]["labels"]
    assert "kueue.x-k8s.io/queue-name" not in pod_labels, "Kueue would queue the pod, too"


def test_resources_are_the_calls() -> None:
    """Limits are what was asked; requests equal them but for CPU, and a GPU is requested by the name asked for."""
    template = Template(name="gpu", gpu=GpuAllowance(max_count=4, resources=("nvidia.com/gpu", "amd.com/gpu")))
    resources = {"cpu": "2", "memory": "1Gi", "gpu": {"count": 3, "resource": "amd.com/gpu"}}
    found = _pod(_job(template, resources=resources))["containers"][0]["resources"]
    limits = {"cpu": "2", "memory": "1Gi", "ephemeral-storage": "1Gi", "amd.com/gpu": "3"}
    assert found == {"limits": limits, "requests": {**limits, "cpu": "100m"}}


def test_cpu_request_is_never_more_than_the_limit() -> None:
    """A call that asks for less than the Job template reserves gets what it asked for."""
    found = _pod(_job(Template(name="t"), resources={"cpu": "50m"}))["containers"][0]["resources"]
    assert (found["requests"]["cpu"], found["limits"]["cpu"]) == ("50m", "50m")


def test_deadlines_are_rings() -> None:
    """Runner, pod and Job end in this order, each with room for the inner one; the kubelet's grace holds the call's."""
    template = Template(name="t", start_seconds=100, grace_seconds=9, ttl_seconds=77)
    job = _job(template, timeout_seconds=30)
    pod = _pod(job)
    runner = 100 + 30 + 9
    assert runner < pod["activeDeadlineSeconds"] < job["spec"]["activeDeadlineSeconds"]
    assert pod["terminationGracePeriodSeconds"] == 12
    assert job["spec"]["ttlSecondsAfterFinished"] == 77


def test_a_job_that_waits_for_room_is_not_ended_for_that() -> None:
    """Its own deadline counts from its creation; the pod's, from its start, ends it in time."""
    job = _keeping_off(load_skeleton(Template(name="t"), "image:1"), JobState.WAITING, 0)
    assert _pod(job)["activeDeadlineSeconds"] == 80
    assert job["spec"]["activeDeadlineSeconds"] > 24 * 3600


def test_cpu_sandboxes_see_no_gpu() -> None:
    """Without a GPU asked for, images that ask for all of them get none; with one, nothing is said."""
    template = Template(name="t", gpu=GpuAllowance(max_count=1))
    env = {item["name"]: item.get("value") for item in _pod(_job(template))["containers"][0]["env"]}
    assert env["NVIDIA_VISIBLE_DEVICES"] == "void"
    with_gpu = _pod(_job(template, resources={"gpu": {"count": 1}}))["containers"][0]["env"]
    assert "NVIDIA_VISIBLE_DEVICES" not in {item["name"] for item in with_gpu}


@pytest.mark.parametrize(
    ("resource", "shared", "told"),
    [
        ("nvidia.com/gpu", False, "2"),
        ("nvidia.com/mig-1g.10gb", False, "2"),
        ("nvidia.com/gpu.shared", False, None),
        ("nvidia.com/gpu", True, None),
        ("amd.com/gpu", False, None),
    ],
)
def test_runner_is_told_of_gpus_of_its_own(resource: str, shared: object, told: str | None) -> None:
    """It watches the memory of NVIDIA's devices and parts of them, but not of those that sandboxes share."""
    template = Template(name="t", gpu=GpuAllowance(max_count=2, resources=(resource,), shared=bool(shared)))
    for gpus, expected in ((2, told), (0, None)):
        pod = _pod(_job(template, resources={"gpu": {"count": gpus}}))
        env = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
        assert env.get(GPUS_ENV) == expected


OFF = [{"key": "metadata.name", "operator": "NotIn", "values": [name]} for name in ("node-1", "node-2")]
REQUIRED, PREFERRED = (f"{how}DuringSchedulingIgnoredDuringExecution" for how in ("required", "preferred"))


def test_the_pool_keeps_off_nodes_and_a_call_where_it_can() -> None:
    """Only with GPUs. What waits may not be there at all, what is made for a call only if there is no other node."""
    skeleton = load_skeleton(Template(name="t"), "image:1")
    pooled = _keeping_off(skeleton, JobState.WAITING, 1)
    assert _pod(pooled)["affinity"] == {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchFields": OFF}]}}}
    assert pooled["metadata"]["annotations"][names.KEEPS_OFF] == "node-1,node-2"
    cold = _pod(_keeping_off(skeleton, JobState.CLAIMED, 1))
    assert cold["affinity"] == {"nodeAffinity": {PREFERRED: [{"weight": 100, "preference": {"matchFields": OFF}}]}}
    assert "affinity" not in _pod(_keeping_off(skeleton, JobState.WAITING, 0))


def test_an_operator_s_own_affinity_stays() -> None:
    """Each of the alternatives that a Job template gives is narrowed, so that none leads to such a node."""
    skeleton = load_skeleton(Template(name="t"), "image:1")
    zones = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]} for zone in "ab"]
    weighed = {"weight": 1, "preference": zones[0]}
    rules = {REQUIRED: {"nodeSelectorTerms": zones}, PREFERRED: [weighed]}
    skeleton["spec"]["template"]["spec"]["affinity"] = {"nodeAffinity": rules, "podAffinity": {}}
    affinity = _pod(_keeping_off(skeleton, JobState.WAITING, 1))["affinity"]
    terms = [{**zone, "matchFields": OFF} for zone in zones]
    assert affinity == {"nodeAffinity": {**rules, REQUIRED: {"nodeSelectorTerms": terms}}, "podAffinity": {}}
    affinity = _pod(_keeping_off(skeleton, JobState.CLAIMED, 1))["affinity"]
    assert affinity["nodeAffinity"][PREFERRED] == [weighed, {"weight": 100, "preference": {"matchFields": OFF}}]


def test_no_secret_is_in_the_job() -> None:
    """The Job holds the token's hash, not the token, and nothing of the call."""
    text = str(_job(Template(name="t")))
    assert token_hash("t") in text
    assert "'t'" not in text.replace("'executor-api/template': 't'", "")


def test_skeleton_is_not_changed_by_a_sandbox() -> None:
    """Sandboxes of one template share its skeleton and none sees another's values."""
    template = Template(name="t")
    skeleton = load_skeleton(template, "image:1")
    before = yaml.safe_dump(skeleton)
    _job(template)
    assert yaml.safe_dump(skeleton) == before


def test_any_text_survives_the_template() -> None:
    """What an operator writes arrives byte for byte, whatever YAML or Jinja would make of it."""
    assert yaml.safe_load(f"value: {to_yaml(HOSTILE)}") == {"value": HOSTILE}
    template = Template(name="t", image=HOSTILE.replace("\x00", ""))
    assert _pod(_job(template))["containers"][0]["image"] == template.image


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("backoffLimit: 0", "backoffLimit: 3", "backoffLimit must be 0"),
        ("restartPolicy: Never", "restartPolicy: OnFailure", "restartPolicy must be Never"),
        ("podReplacementPolicy: Failed", "podReplacementPolicy: TerminatingOrFailed", "podReplacementPolicy"),
        ("action: FailJob", "action: Ignore", "podFailurePolicy"),
        ("automountServiceAccountToken: false", "automountServiceAccountToken: true", "automountServiceAccountToken"),
        ("runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot must be true"),
        ("drop: [ALL]", "drop: [NET_RAW]", "capabilities must drop [ALL]"),
        ("allowPrivilegeEscalation: false", "privileged: true", "privileged must not be true"),
        ("type: RuntimeDefault", "type: Unconfined", "seccompProfile"),
        ("restartPolicy: Never", "restartPolicy: Never\n      hostNetwork: true", "hostNetwork"),
        ("readOnlyRootFilesystem: false", "readOnlyRootFilesystem: true", "mount a volume at /sandbox"),
        ("- name: runner\n", "- name: main\n", "first container must be named 'runner'"),
        (
            "restartPolicy: Never",
            "restartPolicy: Never\n      volumes: [{name: host, hostPath: {path: /}}]",
            "hostPath is not allowed",
        ),
        ("kind: Job", "kind: Pod", "must be batch/v1 and Job"),
        ("spec:", "spec: []\nx:", "no batch/v1 Job"),
        ("template.ttl_seconds", "template.ttl", "no attribute 'ttl'"),
        ("{{ image | json }}", "{{ image |", "line"),
        ("kind: Job", "kind: [", "no YAML"),
    ],
)
def test_template_that_can_not_be_used(tmp_path: Path, old: str, new: str, part: str) -> None:
    """A Job template that could run a call twice, escape or not be rendered is refused with file and reason."""
    path = tmp_path / "job.yaml.j2"
    source = built_in_source()
    assert old in source
    path.write_text(source.replace(old, new, 1))
    with pytest.raises(ConfigurationError) as caught:
        load_skeleton(Template(name="t", job_template=str(path)), "image:1")
    assert part in str(caught.value)
    assert str(path) in str(caught.value)


def test_template_file_that_is_missing() -> None:
    """A Job template that isn't there is named."""
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml"):
        load_skeleton(Template(name="t", job_template="nowhere.yaml"), "image:1")
