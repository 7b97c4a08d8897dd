"""NetworkPolicies: nothing by default, one way in, and a way out never leads to a metadata service."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from chart.helm import CHART, Values, matrix, refusal
from chart.pods import of_kind, service_pod
from executor_api.backends.kubernetes import names
from executor_api.backends.kubernetes.network_policy import selects

METADATA = (
    *("169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16"),
    *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"),
)
SANDBOX = {names.NAME: names.SANDBOX, names.TEMPLATE: "default"}


def _policies(values: Values, labels: dict[str, str], direction: str) -> list[dict[str, Any]]:
    """Specs that select a pod in the sandboxes' namespace."""
    found = (item["spec"] for item in of_kind(values, "NetworkPolicy") if item["metadata"]["namespace"] != "ns")
    return [spec for spec in found if direction in spec["policyTypes"] and selects(spec["podSelector"], labels)]


def _egress(*cidrs: str, **more: Any) -> Values:
    return {"networkPolicy": {"egress": [{"name": "out", "cidrs": list(cidrs), **more}]}}


def _blocks(values: Values) -> list[dict[str, Any]]:
    return [
        peer["ipBlock"]
        for item in of_kind(values, "NetworkPolicy")
        for rule in item["spec"].get("egress", ())
        for peer in rule.get("to", ())
        if "ipBlock" in peer
    ]


def _lets(block: dict[str, Any], address: str) -> bool:
    where = ipaddress.ip_address(address)
    inside = where in ipaddress.ip_network(block["cidr"], strict=False)
    return inside and not any(where in ipaddress.ip_network(item) for item in block.get("except", ()))


def test_sandboxes_reach_nothing_by_default() -> None:
    """Without values, sandboxes and whatever else gets into their namespace are denied both ways out of the box."""
    for labels in (SANDBOX, {}):
        assert [spec.get("egress") for spec in _policies({}, labels, "Egress")] == [None]
        assert None in [spec.get("ingress") for spec in _policies({}, labels, "Ingress")]


def test_deny_outlives_the_release() -> None:
    """Helm leaves the deny to the namespace that it makes, which ends pods first; elsewhere it takes it away."""

    def kept(values: Values) -> list[str]:
        policies = [item["metadata"] for item in of_kind(values, "NetworkPolicy")]
        return [item["name"] for item in policies if item.get("annotations") == {"helm.sh/resource-policy": "keep"}]

    assert kept({}) == ["x-executor-deny"]
    for namespace in ({"name": "ns"}, {"name": "calls", "create": False}):
        assert kept({"sandbox": {"namespace": namespace}}) == []


def test_only_the_service_reaches_runners() -> None:
    """The one peer that is let in is the service's pods, by their labels and their namespace together."""
    rules = [rule for spec in _policies({}, SANDBOX, "Ingress") for rule in spec.get("ingress", ())]
    (peer,) = [peer for rule in rules for peer in rule["from"]]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "ns"}
    assert selects(peer["podSelector"], service_pod({})["metadata"]["labels"])
    assert not selects(peer["podSelector"], SANDBOX)


def test_shared_namespaces_keep_their_other_pods() -> None:
    """In a namespace that is not the chart's own, its policies select nothing but sandboxes."""
    for namespace in ({"name": "ns"}, {"name": "calls", "create": False}):
        values: Values = {"sandbox": {"namespace": namespace}}
        specs = [item["spec"] for item in of_kind(values, "NetworkPolicy") if item["metadata"]["name"] != "x-executor"]
        assert not [spec for spec in specs if selects(spec["podSelector"], {})]
        assert any("Egress" in spec["policyTypes"] and selects(spec["podSelector"], SANDBOX) for spec in specs)


def test_service_takes_requests_on_its_port_only() -> None:
    """Whoever may reach the service reaches its two ports; with `from` only those peers, and the test of Helm."""
    (policy,) = (item["spec"] for item in of_kind({}, "NetworkPolicy") if item["metadata"]["namespace"] == "ns")
    assert policy["ingress"] == [{"ports": [{"port": port, "protocol": "TCP"}]} for port in ("metrics", "http")]
    locked = matrix()["locked"]
    (policy,) = (item["spec"] for item in of_kind(locked, "NetworkPolicy") if item["metadata"]["namespace"] == "ns")
    team, test = policy["ingress"][1]["from"]
    assert team == {"namespaceSelector": {"matchLabels": {"team": "agents"}}}
    (pod,) = of_kind(locked, "Pod")
    assert selects(test["podSelector"], pod["metadata"]["labels"])
    assert not selects(policy["podSelector"], pod["metadata"]["labels"])


def test_ways_out_are_a_templates_own() -> None:
    """A way out for one template selects its sandboxes, and not those of another."""
    values: Values = {**_egress("198.51.100.0/24", templates=["online"]), "templates": {"online": {}}}
    for template, ways in (("online", 1), ("default", 0)):
        found = _policies(values, {**SANDBOX, names.TEMPLATE: template}, "Egress")
        assert len([spec for spec in found if spec.get("egress")]) == ways


@pytest.mark.parametrize(
    ("cidr", "reached"),
    [
        ("0.0.0.0/0", "198.51.100.7"),
        ("128.0.0.0/1", "198.51.100.7"),
        ("169.0.0.0/8", "169.1.1.1"),
        ("169.254.0.0/15", "169.255.1.1"),
        ("169.252.0.0/14", "169.253.1.1"),
        ("10.0.0.0/8", "10.1.2.3"),
        ("100.64.0.0/10", "100.64.1.1"),
        ("100.100.100.200/31", "100.100.100.201"),
        ("168.0.0.0/6", "168.63.129.17"),
        ("fd20::/16", "fd20:1::9"),
        ("169.254.20.10/32", "169.254.20.10"),
        ("198.51.100.77/32", "198.51.100.77"),
        ("::/0", "2001:db8::1"),
        ("fc00::/7", "fd12::1"),
        ("fd00::/8", "fd00:10:244::9"),
        ("fd00::/31", "fd00:1::9"),
        ("fd00:10:244::/56", "fd00:10:244::9"),
        ("2001:db8::/32", "2001:db8::1"),
    ],
)
def test_metadata_is_cut_out(cidr: str, reached: str) -> None:
    """A block lets out to its addresses, and never to a metadata service; what is cut out lies within the block."""
    (block,) = _blocks(_egress(cidr))
    assert block["cidr"] == cidr
    assert _lets(block, reached)
    assert not [address for address in METADATA if _lets(block, address)]
    whole = ipaddress.ip_network(cidr)
    for text in block.get("except", ()):
        part = ipaddress.ip_network(text)
        assert part.version == whole.version
        assert part.prefixlen > whole.prefixlen
        assert part.network_address in whole


@pytest.mark.parametrize(
    "cidr",
    [
        *("169.254.0.0/16", "169.254.169.0/24", "169.254.169.254/32", "169.254.128.0/17"),
        *("169.254.170.2/32", "169.254.170.16/28", "100.100.100.200/32", "168.63.129.16/32"),
        *("fd00:ec2::/32", "fd00:ec2::254/128", "fd00:0ec2::/64", "fd20:ce::254/128", "fd20:00ce::/32"),
    ],
)
def test_metadata_itself_is_refused(cidr: str) -> None:
    """A block that is little more than the metadata service is refused, by its name."""
    assert f"networkPolicy.egress (out): {cidr} holds the address of a cloud's metadata service" in refusal(
        _egress(cidr)
    )


def test_operators_read_which_addresses() -> None:
    """The chart's README lists each address that is cut out, and the renders of the widest blocks no other."""
    for address in METADATA:
        assert f"`{address}`" in (CHART / "README.md").read_text()
    cut = {item for block in _blocks(_egress("0.0.0.0/0", "::/0")) for item in block["except"]}
    assert all(any(ipaddress.ip_address(address) in ipaddress.ip_network(item) for address in METADATA) for item in cut)


def test_the_internet_is_not_the_cluster() -> None:
    """`internet: true` reaches public addresses, and neither private ones nor those the operator names."""
    values: Values = {
        "networkPolicy": {"internetExcept": ["203.0.113.0/24"], "egress": [{"name": "a", "internet": True}]}
    }
    blocks = _blocks(values)
    for address in ("198.51.100.7", "2001:db8::1"):
        assert any(_lets(block, address) for block in blocks)
    kept = ("10.1.2.3", "172.20.0.1", "192.168.1.1", "100.64.1.1", "127.0.0.1", "168.63.129.16", "203.0.113.9")
    for address in (*METADATA, *kept, "fd12::1", "fe80::1", "224.0.0.1", "255.255.255.255", "64:ff9b::a00:1"):
        assert not any(_lets(block, address) for block in blocks), address


@pytest.mark.parametrize("values", matrix().values(), ids=matrix())
def test_no_way_out_leads_to_metadata(values: Values) -> None:
    """Over all values that the chart is tried with."""
    assert not [(block, address) for block in _blocks(values) for address in METADATA if _lets(block, address)]


def test_policies_can_be_left_out() -> None:
    """Where something else guards the network, the chart makes no policy."""
    assert of_kind({"networkPolicy": {"enabled": False}}, "NetworkPolicy") == []
