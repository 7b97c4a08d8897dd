"""Which NetworkPolicies concern sandboxes. Pure; whether the network enforces them is for `enforcement` to say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from executor_api.domain.finding import Finding, ok, warn

_DANGERS = {
    "Ingress": "whoever reaches the pod network can connect to them",
    "Egress": "they can reach the network, the API server and a cloud's metadata service included",
}


def judge(policies: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, str]], namespace: str) -> list[Finding]:
    """One finding a direction, for pods with these labels: it is guarded if a policy selects each of them.

    One that lets everything through undoes that, as what any policy allows is allowed.
    """
    return [_judge_one(direction, policies, pods, namespace) for direction in _DANGERS]


def _judge_one(
    direction: str, policies: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, str]], namespace: str
) -> Finding:
    check = f"network {direction.lower()}"
    concerned = [item for item in policies if direction in _types(item["spec"])]
    opened = [item for item in concerned if _opens(direction, item) and any(_selects(item, labels) for labels in pods)]
    if opened:
        names = ", ".join(item["metadata"]["name"] for item in opened)
        text = f"NetworkPolicy {names} allows sandboxes all {direction.lower()}, so {_DANGERS[direction]}"
        return warn(check, f"{text}; take its empty rule out, in namespace {namespace}")
    if all(any(_selects(item, labels) for item in concerned) for labels in pods):
        return ok(check, "a NetworkPolicy selects sandboxes")
    text = f"no NetworkPolicy selects sandboxes for {direction.lower()}, so {_DANGERS[direction]}"
    return warn(check, f"{text}; add a default-deny policy to namespace {namespace}")


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches."""
    equal = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
    return equal and all(_holds(item, labels) for item in selector.get("matchExpressions") or ())


def _selects(policy: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    return selects(policy["spec"].get("podSelector") or {}, labels)


def _opens(direction: str, policy: Mapping[str, Any]) -> bool:
    """Whether one of its rules names neither peers nor ports."""
    return any(not any(rule.values()) for rule in policy["spec"].get(direction.lower()) or ())


def _types(spec: Mapping[str, Any]) -> Iterable[str]:
    written: Sequence[str] | None = spec.get("policyTypes")
    return written or (("Ingress", "Egress") if spec.get("egress") else ("Ingress",))


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    return {
        "In": key in labels and labels[key] in values,
        "NotIn": labels.get(key) not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }[expression["operator"]]
