"""What a security team asks of every pod, right and secret, over all values that the chart is tried with."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from chart.helm import NAMESPACE, Values, default_values, matrix, objects
from chart.pods import environment, of_kind, pods, service_pod
from chart.restricted import containers, violations
from executor_api.backends.kubernetes.checks import ALWAYS, POOL, PROXY, Right
from executor_runner.protocol import PORT

MATRIX = matrix()
SANDBOXES = "x-executor-sandboxes"
MONITOR = "DaemonSet x-executor-monitor"
MONITOR_NEEDS = ["hostPID", "volume hostPath", "capabilities", "runAsNonRoot"]
"""Nobody sees the processes of a node without them."""

each_values = pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)


@each_values
def test_every_pod_is_restricted(values: Values) -> None:
    """Each but the monitor passes Pod Security `restricted`; no root can be written, no service variable is set."""
    found = pods(values)
    assert found
    for name, pod in found.items():
        assert (name, violations(pod)) == (name, MONITOR_NEEDS if name == MONITOR else [])
        assert pod["enableServiceLinks"] is False
        assert all(item["securityContext"]["readOnlyRootFilesystem"] for item in containers(pod))


@each_values
def test_every_container_is_bounded(values: Values) -> None:
    """Each has requests and limits for CPU and memory, and each volume in memory or on the node's disk a size."""
    for pod in pods(values).values():
        for item in containers(pod):
            assert {"cpu", "memory"} <= item["resources"]["requests"].keys() & item["resources"]["limits"].keys()
        assert all(volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if "emptyDir" in volume)


@each_values
def test_only_the_service_has_a_token(values: Values) -> None:
    """The service's pod mounts its account's token; no account gives one to others, and sandboxes' has no binding."""
    for name, pod in pods(values).items():
        assert pod["automountServiceAccountToken"] is name.startswith("Deployment")
    accounts = of_kind(values, "ServiceAccount")
    assert all(item["automountServiceAccountToken"] is False for item in accounts)
    bound = {subject["name"] for item in of_kind(values, "RoleBinding") for subject in item["subjects"]}
    assert "x-executor-sandbox" not in bound


def _rules(rights: Iterable[Right]) -> set[tuple[str, str, str]]:
    return {(r.group, r.resource + (f"/{r.subresource}" if r.subresource else ""), r.verb) for r in rights}


@each_values
def test_role_is_exactly_what_the_service_checks_for(values: Values) -> None:
    """The Role has the verbs that `executor-api doctor` looks for and no other; a ClusterRole is for token reviews."""
    wanted = {*ALWAYS, *POOL, *(PROXY if values.get("dispatch") == "proxy" else ())}
    roles = of_kind(values, "Role")
    assert len(roles) == (0 if values.get("rbac") == {"create": False} else 1)
    for role in roles:
        assert role["metadata"]["namespace"] == environment(values)["EXECUTOR_NAMESPACE"]
        assert _given(role["rules"]) == _rules(wanted)
    cluster_roles = of_kind(values, "ClusterRole")
    reviews = bool(values.get("auth", {}).get("tokenReview"))
    assert [_given(role["rules"]) for role in cluster_roles] == (
        [{("authentication.k8s.io", "tokenreviews", "create")}] if reviews else []
    )


def _given(rules: list[dict[str, list[str]]]) -> set[tuple[str, str, str]]:
    assert not any("resourceNames" in rule for rule in rules)
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@each_values
def test_secrets_are_in_secrets(values: Values) -> None:
    """No text of a Secret shows anywhere else, and what is secret reaches the service by reference only."""
    secrets = [text for item in of_kind(values, "Secret") for text in item["data"].values()]
    elsewhere = json.dumps([item for item in objects(values) if item["kind"] != "Secret"])
    assert not [text for text in secrets if text in elsewhere]
    url = values.get("store", {}).get("url")
    assert not url or url not in elsewhere
    assert not {"EXECUTOR_API_KEY", "EXECUTOR_MASTER_KEY", "EXECUTOR_STORE_URL"} & environment(values).keys()


def test_generated_secrets_are_long_and_new() -> None:
    """Two releases share no secret, and each has 48 characters."""
    first, second = ({item["metadata"]["name"]: item["data"] for item in of_kind({}, "Secret")} for _ in range(2))
    assert first.keys() == second.keys() == {"x-executor-api-key", "x-executor-master-key"}
    assert not {str(item) for item in first.values()} & {str(item) for item in second.values()}
    assert all(len(text) == 64 for item in first.values() for text in item.values())  # 48 bytes, base64


def test_secrets_of_the_operator_are_used() -> None:
    """With Secrets that exist the chart makes none, and says in the pod where to look."""
    values: Values = {
        "masterKey": {"existingSecret": "m", "key": "a"},
        "auth": {"apiKey": {"existingSecret": "k", "key": "b"}},
        "store": {"existingSecret": "s", "key": "c"},
    }
    assert of_kind(values, "Secret") == []
    (container,) = service_pod(values)["spec"]["containers"]
    references = {
        item["name"]: tuple(item["valueFrom"]["secretKeyRef"].values())
        for item in container["env"]
        if "valueFrom" in item
    }
    assert {name: sorted(found) for name, found in references.items()} == {
        "EXECUTOR_MASTER_KEY": ["a", "m"],
        "EXECUTOR_API_KEY": ["b", "k"],
        "EXECUTOR_STORE_URL": ["c", "s"],
    }


def test_sandboxes_have_a_restricted_namespace() -> None:
    """Without values the chart makes a namespace that enforces `restricted`; in the release's own it makes none."""
    (made,) = of_kind({}, "Namespace")
    labels = made["metadata"]["labels"]
    assert made["metadata"]["name"] == SANDBOXES
    modes = ("enforce", "audit", "warn")
    assert [labels[f"pod-security.kubernetes.io/{mode}"] for mode in modes] == ["restricted"] * 3
    assert of_kind({"sandbox": {"namespace": {"name": NAMESPACE}}}, "Namespace") == []
    assert of_kind({"sandbox": {"namespace": {"name": "calls", "create": False}}}, "Namespace") == []


def test_labels_of_the_operator_leave_what_others_select_by() -> None:
    """Labels and annotations of the values that are the chart's too neither stand there twice nor take its place."""
    mine = {"app.kubernetes.io/component": "mine", "app.kubernetes.io/name": "mine"}
    values: Values = {
        "commonLabels": mine,
        "podLabels": mine,
        "podAnnotations": {"checksum/config": "mine", "example.org/a": "b"},
        "sandbox": {"namespace": {"labels": {**mine, "pod-security.kubernetes.io/enforce": "restricted"}}},
        "metrics": {"serviceMonitor": {"enabled": True, "labels": {"app.kubernetes.io/part-of": "monitoring"}}},
    }
    pod, plain = service_pod(values)["metadata"], service_pod({})["metadata"]
    assert pod["labels"] == plain["labels"]
    assert pod["annotations"] == {**plain["annotations"], "example.org/a": "b"}
    (monitor,) = of_kind(values, "ServiceMonitor")
    assert monitor["metadata"]["labels"]["app.kubernetes.io/part-of"] == "monitoring"
    selected = monitor["spec"]["selector"]["matchLabels"].items()
    services = of_kind(values, "Service")
    names = [item["metadata"]["name"] for item in services if selected <= item["metadata"]["labels"].items()]
    assert names == ["x-executor-metrics"]


def test_admission_policy_names_what_templates_use() -> None:
    """The policy lets in the images and accounts of the values, and binds to the sandboxes' namespace alone."""
    values = MATRIX["locked"]
    policies = {item["metadata"]["name"]: item["spec"] for item in of_kind(values, "ValidatingAdmissionPolicy")}
    assert set(policies) == {"ns-x-executor-jobs", "ns-x-executor-pods"}
    for spec in policies.values():
        text = json.dumps(spec)
        for allowed in (
            "executor@sha256:fedc",
            "executor-debug:1",
            "executor-online:1",
            "x-executor-sandbox",
            "online",
        ):
            assert allowed in text
        assert spec["failurePolicy"] == "Fail"
    for binding in of_kind(values, "ValidatingAdmissionPolicyBinding"):
        assert binding["spec"]["validationActions"] == ["Deny"]
        selector = binding["spec"]["matchResources"]["namespaceSelector"]["matchLabels"]
        assert selector == {"kubernetes.io/metadata.name": "calls"}


def test_defaults_ask_callers() -> None:
    """Nothing in the defaults lets anybody in without a key."""
    assert default_values()["auth"]["none"] is False
    assert "EXECUTOR_NO_AUTH" not in environment({})
    assert environment(MATRIX["placed"])["EXECUTOR_NO_AUTH"] == "true"


def test_runner_port_is_the_runners() -> None:
    """The one way into sandboxes is the port that runners listen on."""
    (policy,) = (item for item in of_kind({}, "NetworkPolicy") if item["metadata"]["name"] == "x-executor-runner")
    assert policy["spec"]["ingress"][0]["ports"] == [{"port": PORT, "protocol": "TCP"}]
