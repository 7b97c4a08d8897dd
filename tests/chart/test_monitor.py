"""The process monitor on each node, as the chart puts it there."""

from __future__ import annotations

import yaml

from chart.helm import ROOT, Values, objects
from chart.pods import of_kind
from executor_api.backends.kubernetes.network_policy import selects

ON: Values = {"monitor": {"enabled": True}}
HERE = "x-executor-monitor"


def test_it_is_off_by_default() -> None:
    """Without values nothing of it is there; switched on, all of it but the scraping is in a namespace of its own."""
    assert "monitor" not in str(objects({}))
    added = [item for item in objects(ON) if "monitor" in item["metadata"]["name"]]
    assert [item["kind"] for item in added] == ["DaemonSet", "Namespace", "NetworkPolicy"]
    assert {item["metadata"].get("namespace", HERE) for item in added} == {HERE}


def test_it_is_what_the_manifest_is() -> None:
    """Chart and manifests/monitor.yaml run the same pod with the same rights, from the image of this version."""
    [chart] = of_kind(ON, "DaemonSet")
    pod = chart["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container.pop("imagePullPolicy") == "IfNotPresent"
    manifest = yaml.safe_load((ROOT / "manifests" / "monitor.yaml").read_text())
    assert pod == manifest["spec"]["template"]["spec"]


def test_it_touches_the_node_for_reading_only() -> None:
    """Not privileged, no token, one capability, the one path of the host read-only, and not the host's network."""
    [chart] = of_kind(ON, "DaemonSet")
    pod = chart["spec"]["template"]["spec"]
    [container] = pod["containers"]
    security = container["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["SYS_PTRACE"]}
    assert not security.get("privileged")
    assert not security["allowPrivilegeEscalation"]
    assert not pod["automountServiceAccountToken"]
    assert not {"hostNetwork", "hostIPC"} & pod.keys()
    assert [volume["hostPath"]["path"] for volume in pod["volumes"]] == ["/sys/fs/cgroup"]
    assert [mount["readOnly"] for mount in container["volumeMounts"]] == [True]


def test_it_is_shown_gpus_when_asked_to() -> None:
    """Then NVIDIA's runtime, that of its class, gives it all devices and what tells of them; else it asks for none."""
    for values, env, runtime_class in (
        ({}, None, None),
        ({"gpus": True}, {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "utility"}, None),
        ({"runtimeClassName": "nvidia"}, None, "nvidia"),
    ):
        [chart] = of_kind({"monitor": {"enabled": True, **values}}, "DaemonSet")
        pod = chart["spec"]["template"]["spec"]
        [container] = pod["containers"]
        found = container.get("env")
        assert (found and {item["name"]: item["value"] for item in found}) == env
        assert pod.get("runtimeClassName") == runtime_class


def test_its_namespace_alone_admits_privileged_pods() -> None:
    """The namespace that the chart makes for it does, the sandboxes' does not; one that is there is left as it is."""
    enforced = {
        item["metadata"]["name"]: item["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for item in of_kind(ON, "Namespace")
    }
    assert enforced == {HERE: "privileged", "x-executor-sandboxes": "restricted"}
    for namespace in ({"name": "mine", "create": False}, {"name": "ns"}):
        values: Values = {"monitor": {"enabled": True, "namespace": namespace}}
        assert [item["metadata"]["name"] for item in of_kind(values, "Namespace")] == ["x-executor-sandboxes"]
        assert of_kind(values, "DaemonSet")[0]["metadata"]["namespace"] == namespace["name"]


def test_only_its_figures_are_reached_and_it_reaches_nothing() -> None:
    """Its policy lets in one port, from `networkPolicy.metricsFrom` if that is set, and nothing out."""
    scrapers = [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]
    values: Values = {**ON, "networkPolicy": {"metricsFrom": scrapers}}
    [policy] = (item["spec"] for item in of_kind(values, "NetworkPolicy") if item["metadata"]["namespace"] == HERE)
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"port": "metrics", "protocol": "TCP"}], "from": scrapers}]
    assert "egress" not in policy
    [chart] = of_kind(values, "DaemonSet")
    assert selects(policy["podSelector"], chart["spec"]["template"]["metadata"]["labels"])
    assert not of_kind({**ON, "networkPolicy": {"enabled": False}}, "NetworkPolicy")


def test_prometheus_finds_it_with_the_name_of_its_node() -> None:
    """With either kind of monitor of the service comes a PodMonitor of its pods; alone it makes none."""
    assert of_kind(ON, "PodMonitor") == []
    for kind in ("serviceMonitor", "podMonitor"):
        values: Values = {**ON, "metrics": {kind: {"enabled": True, "labels": {"release": "p"}, "interval": "7s"}}}
        [found] = (item for item in of_kind(values, "PodMonitor") if item["metadata"]["name"] == HERE)
        assert found["metadata"]["labels"]["release"] == "p"
        assert found["spec"]["namespaceSelector"] == {"matchNames": [HERE]}
        [chart] = of_kind(values, "DaemonSet")
        assert selects(found["spec"]["selector"], chart["spec"]["template"]["metadata"]["labels"])
        [endpoint] = found["spec"]["podMetricsEndpoints"]
        assert endpoint["interval"] == "7s"
        assert [item["targetLabel"] for item in endpoint["relabelings"]] == ["node"]
        [container] = chart["spec"]["template"]["spec"]["containers"]
        assert endpoint["port"] in [port["name"] for port in container["ports"]]
