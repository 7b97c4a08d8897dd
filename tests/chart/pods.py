"""The pods among a chart's objects."""

from __future__ import annotations

from typing import Any

from chart.helm import Object, Values, objects


def pods(values: Values) -> dict[str, dict[str, Any]]:
    """Specs of pods and of what makes pods, by kind and name."""
    return {f"{item['kind']} {item['metadata']['name']}": spec for item in objects(values) if (spec := _spec(item))}


def service_pod(values: Values) -> dict[str, Any]:
    """The pod of the Deployment, as its template says."""
    (deployment,) = (item for item in objects(values) if item["kind"] == "Deployment")
    template: dict[str, Any] = deployment["spec"]["template"]
    return template


def environment(values: Values) -> dict[str, str]:
    """What the service's container gets as plain text."""
    (container,) = service_pod(values)["spec"]["containers"]
    return {item["name"]: item["value"] for item in container["env"] if "value" in item}


def of_kind(values: Values, kind: str) -> list[Object]:
    """Objects of a kind."""
    return [item for item in objects(values) if item["kind"] == kind]


def _spec(item: Object) -> dict[str, Any] | None:
    found: dict[str, Any] | None = None
    if item["kind"] == "Pod":
        found = item["spec"]
    elif item["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job"}:
        found = item["spec"]["template"]["spec"]
    return found
