"""Mistakes in values are refused before anything is installed, in a message that names the field."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chart.generated import MEANINGLESS, SCHEMA, SET_BY_CHART
from chart.helm import Values, default_values, refusal
from executor_api.settings import describe_settings


def _at(path: str, value: Any) -> Values:
    first, _, rest = path.partition(".")
    return {first: _at(rest, value) if rest else value}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("replica", 2, "'replica' not allowed"),
        ("replicas", "two", "/replicas': got string, want integer"),
        ("replicas", -1, "/replicas': minimum"),
        ("image.tag", 1.2, "/image/tag': got number, want string"),
        ("image.repo", "x", "'repo' not allowed"),
        ("image.repository", "executor-api:1", "/image/repository': 'executor-api:1' does not match"),
        ("image.digest", "sha256:12", "/image/digest'"),
        ("image.pullPolicy", "always", "/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("imagePullSecrets", ["registry"], "/imagePullSecrets/0': got string, want object"),
        ("sandbox.namespace.name", "Calls", "/sandbox/namespace/name'"),
        ("sandbox.namespace.create", "yes", "/sandbox/namespace/create': got string, want boolean"),
        ("sandbox.quota.hard", {"pods": "many"}, "/sandbox/quota/hard/pods'"),
        ("templates", [{"name": "default"}], "/templates': got array, want object"),
        ("templates", {"GPU": {}}, "invalid propertyName 'GPU'"),
        ("templates", {"gpu": {"imagee": "x"}}, "/templates/gpu': additional properties 'imagee' not allowed"),
        ("templates", {"gpu": {"pool": {"size": "two"}}}, "/templates/gpu/pool/size': got string"),
        ("templates", {"gpu": {"resources": {"cpu": "1"}}}, "/templates/gpu/resources': missing properties 'memory'"),
        ("dispatch", "auto", "/dispatch': value must be one of 'pod-ip', 'proxy'"),
        ("settings", {"maxQeue": 5}, "/settings': additional properties 'maxQeue' not allowed"),
        ("settings", {"maxQueue": "5"}, "/settings/maxQueue': got string, want null or integer"),
        ("settings", {"maxConcurrency": 0}, "/settings/maxConcurrency': minimum"),
        ("settings", {"maxColdStarts": 0}, "/settings/maxColdStarts': minimum"),
        ("global", {"imageRegitsry": "r.example"}, "/global': additional properties 'imageRegitsry' not allowed"),
        ("persistence.storageClass", "-", "/persistence/storageClass'"),
        ("auth.oidc.issuer", "http://login.example", "/auth/oidc/issuer'"),
        ("podDisruptionBudget.maxUnavailable", "0%", "/podDisruptionBudget/maxUnavailable'"),
        ("networkPolicy.internetExcept", ["999.1.1.1/8"], "/networkPolicy/internetExcept/0'"),
        ("settings", {"logLevel": "loud"}, "/settings/logLevel': value must be one of 'debug'"),
        ("drain.seconds", 0.5, "/drain/seconds': got number, want integer"),
        ("store.url", "mysql://db", "/store/url'"),
        ("persistence.size", "4 GB", "/persistence/size'"),
        ("auth.apiKey.enabled", "no", "/auth/apiKey/enabled': got string, want boolean"),
        ("auth.apiKey.existingSecrets", "x", "/auth/apiKey': additional properties 'existingSecrets' not allowed"),
        ("auth.oidc.issuer", "login.example", "/auth/oidc/issuer'"),
        ("auth.tenants", {"tenants": {"a": {"rate": "x"}}}, "/auth/tenants/tenants/a/rate': got string"),
        ("service.type", "External", "/service/type'"),
        ("service.port", 80000, "/service/port': maximum"),
        ("ingress.hosts", [{"host": "a"}], "/ingress/hosts/0': got object, want string"),
        ("networkPolicy.egress", [{"cidrs": ["10.0.0.0/8"]}], "/networkPolicy/egress/0': missing property 'name'"),
        ("networkPolicy.egress", [{"name": "a", "cidrs": ["10.0.0.1"]}], "/networkPolicy/egress/0/cidrs/0'"),
        ("networkPolicy.egress", [{"name": "a", "to": [{"ipBlock": {}}]}], "/networkPolicy/egress/0/to/0'"),
        ("networkPolicy.egress", [{"name": "a", "ports": [443]}], "/networkPolicy/egress/0/ports/0'"),
        (
            "networkPolicy.egress",
            [{"name": "a", "dns": True, "templates": []}],
            "/networkPolicy/egress/0/templates': min",
        ),
        ("resources.limits", {"memory": "1 GiB"}, "/resources/limits/memory'"),
        ("resources.limit", {}, "/resources': additional properties 'limit' not allowed"),
        ("tolerations", [{"keys": "a"}], "/tolerations/0'"),
        ("podLabels", {"a": 1}, "/podLabels/a': got number, want string"),
        ("commonLabels", {"a": "b c"}, "/commonLabels/a'"),
        ("probes.liveness", {"periodSecond": 1}, "/probes/liveness'"),
        ("autoscaling.maxReplicas", "10", "/autoscaling/maxReplicas': got string"),
        ("metrics.serviceMonitor.interval", 30, "/metrics/serviceMonitor/interval': got number"),
        ("monitor.namespaces", "x", "/monitor': additional properties 'namespaces' not allowed"),
        ("monitor.tolerations", [{"keys": "a"}], "/monitor/tolerations/0'"),
        ("tracing.endpoint", "collector:4318", "/tracing/endpoint'"),
        ("extraEnv", {"A": "1"}, "/extraEnv': got object, want array"),
        ("extraEnv", [{"name": "A", "value": 1}], "/extraEnv/0/value': got number, want string"),
        ("jobTemplates", {"gpu.yaml": "x"}, "invalid propertyName 'gpu.yaml'"),
    ],
)
def test_typing_error_is_named(path: str, value: Any, message: str) -> None:
    """The schema refuses it, and says where."""
    assert message in refusal(_at(path, value))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replicas": 2}, "need a database that they share; name its Secret in store.existingSecret"),
        ({"autoscaling": {"enabled": True}}, "need a database that they share"),
        ({"store": {"url": "postgresql://x", "existingSecret": "y"}}, "store.url and store.existingSecret: set one"),
        ({"store": {"existingSecret": "y"}, "persistence": {"enabled": True}}, "persistence.enabled: the claim is for"),
        ({"persistence": {"existingClaim": "c"}}, "persistence.existingClaim: it is not used without"),
        (
            {"sandbox": {"namespace": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}},
            "pod-security.kubernetes.io/enforce is restricted where the chart makes the namespace",
        ),
        (
            {"sandbox": {"serviceAccount": {"create": False}, "imagePullSecrets": [{"name": "r"}]}},
            "sandbox.imagePullSecrets: they belong to an account that is not made here",
        ),
        ({"tracing": {"enabled": True}}, "tracing.endpoint: where traces go is not said"),
        ({"tracing": {"endpoint": "http://c:4318"}}, "tracing.endpoint: it is not used without tracing.enabled"),
        ({"service": {"nodePort": 30080}}, "service.nodePort: a Service of type ClusterIP has none"),
        (
            {"store": {"existingSecret": "y"}, "autoscaling": {"enabled": True, "minReplicas": 9}},
            "autoscaling.minReplicas is more than autoscaling.maxReplicas",
        ),
        ({"auth": {"apiKey": {"enabled": False}}}, "auth: no way to tell callers is on; set auth.apiKey.enabled"),
        ({"auth": {"none": True}}, "auth.none: callers are told by auth.apiKey.enabled; leave one or the other out"),
        ({"auth": {"oidc": {"issuer": "https://a.example"}}}, "auth.oidc: issuer and audience go together"),
        (
            {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
            "both scrape the same pods; choose one",
        ),
        ({"ingress": {"enabled": True}}, "ingress.hosts: name a host"),
        (
            {"sandbox": {"namespace": {"name": "ns"}, "admissionPolicy": {"enabled": True}}},
            "sandbox.admissionPolicy.enabled: it would keep the service's own pods out",
        ),
        (
            {"monitor": {"enabled": True, "namespace": {"name": "x-executor-sandboxes"}}},
            "monitor.namespace.name: sandboxes live there",
        ),
        ({"dispatch": "proxy"}, "networkPolicy.sandboxFrom: with dispatch: proxy the API server calls the runners"),
        ({"templates": {"gpu": {"job_template": "gpu.yaml.j2"}}}, 'there is no "gpu.yaml.j2" in jobTemplates'),
        ({"networkPolicy": {"egress": [{"name": "out"}]}}, "networkPolicy.egress (out): it allows nothing"),
        (
            {"networkPolicy": {"internetExcept": ["0.0.0.0/0"], "egress": [{"name": "out", "internet": True}]}},
            "networkPolicy.internetExcept: 0.0.0.0/0 is all of the internet",
        ),
        (
            {"networkPolicy": {"egress": [{"name": "out", "dns": True, "templates": ["onlin"]}]}},
            'networkPolicy.egress (out): there is no "onlin" in templates; correct the name',
        ),
        (
            {"networkPolicy": {"egress": [{"name": "out", "dns": True}, {"name": "out", "internet": True}]}},
            "networkPolicy.egress (out): there are two of this name",
        ),
    ],
)
def test_contradiction_is_named_with_the_way_out(values: Values, message: str) -> None:
    """Values that are fine each and not together are refused, and the message says what to set."""
    assert message in refusal(values)


def _paths(tree: Any, children: Callable[[Any], dict[str, Any]], path: str = "") -> Iterator[str]:
    for name, node in children(tree).items():
        yield f"{path}{name}"
        if f"{path}{name}" not in WHOLE:
            yield from _paths(node, children, f"{path}{name}.")


def test_every_value_has_a_default_that_can_be_read() -> None:
    """What the schema takes stands in values.yaml, but for what Kubernetes or the service describe elsewhere."""
    taken = _paths(json.loads(SCHEMA.read_text()), lambda node: node.get("properties", {}))
    written = set(_paths(default_values(), lambda node: node if isinstance(node, dict) else {}))
    assert [path for path in taken if path not in written and path not in NO_DEFAULT] == []


WHOLE = {"settings", "affinity", "autoscaling.behavior"}
NO_DEFAULT = {"enabled"}


def test_every_setting_has_its_place() -> None:
    """A setting of the service is set by a value of its own, or among `settings`, or has no use in a cluster."""
    names = {info.name for info in describe_settings()}
    assert names >= SET_BY_CHART | MEANINGLESS
    assert not SET_BY_CHART & MEANINGLESS
