"""Helm and Kubernetes accept what the chart renders, over all values that it is tried with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from kubernetes_validate import utils, validate

from chart.generated import INSTALL, SCHEMA
from chart.helm import CHART, ROOT, Object, Values, lint, matrix, objects
from executor_api import __version__

MATRIX = matrix()
VERSIONS = ("1.33", "1.34", "1.35", "1.36", "1.37")
CUSTOM = "monitoring.coreos.com/"
"""Kinds that Kubernetes has no schema of."""

each_values = pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
each_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(scope="module", autouse=True)
def schemas_are_read_once() -> Iterator[None]:
    """The package reads two megabytes of definitions anew for each object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", cache(utils.schema_contents))
        yield


def _check(items: list[Object], version: str) -> None:
    different = {json.dumps(item, sort_keys=True): item for item in items}
    for item in different.values():
        if not item["apiVersion"].startswith(CUSTOM):
            validate(item, version, strict=True)


@each_version
@each_values
def test_helm_lint_is_content(values: Values, version: str) -> None:
    """`helm lint --strict` finds nothing."""
    assert lint(values, f"v{version}.0") == []


@each_version
def test_objects_fit_kubernetes(version: str) -> None:
    """Every object of the whole matrix, and of what is applied without Helm, fits the strict schema of the version."""
    _check([item for values in MATRIX.values() for item in objects(values)] + _applied(), version)


def test_manifest_has_nothing_of_helm() -> None:
    """What is applied without Helm has no hook of it, and no label that says that Helm manages it."""
    for item in _applied():
        labels, notes = (item["metadata"].get(field, {}) for field in ("labels", "annotations"))
        assert not [name for name in (*labels, *notes) if "helm.sh" in name]
        assert labels.get("app.kubernetes.io/managed-by") is None


def _applied() -> list[Object]:
    return [item for item in yaml.safe_load_all(INSTALL.read_text()) if item]


@each_values
def test_objects_have_names_of_their_own(values: Values) -> None:
    """No two objects of a release are one."""
    found = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in objects(values)]
    assert len(found) == len(set(found))


def test_chart_is_of_this_version() -> None:
    """The chart installs the images of the version beside it, and knows the Kubernetes versions it is tried with."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
    assert chart["kubeVersion"] == f">={VERSIONS[0]}.0-0"


def _open(node: Any, path: str = "") -> Iterator[str]:
    """Objects of a schema that take anything."""
    if isinstance(node, dict):
        if "object" in node.get("type", ()) and "additionalProperties" not in node:
            yield path.replace("/properties", "").strip("/")
        for name, part in node.items():
            yield from _open(part, f"{path}/{name}")


KUBERNETES_OWN = {
    *("podSecurityContext", "securityContext"),
    *(f"affinity/{name}" for name in ("nodeAffinity", "podAffinity", "podAntiAffinity")),
    *("topologySpreadConstraints/items", "autoscaling/metrics/items"),
    *("autoscaling/behavior/scaleUp", "autoscaling/behavior/scaleDown"),
    *("extraEnv/items/valueFrom", "extraEnvFrom/items/secretRef", "extraEnvFrom/items/configMapRef"),
    *("extraVolumes/items", "extraVolumeMounts/items", "extraObjects/items"),
}
"""Values that are passed on as they are: the API server says what is wrong in them."""


def test_schema_is_one() -> None:
    """The values' schema is a JSON schema itself, and closed: each object in it names all that it takes."""
    schema = json.loads(SCHEMA.read_text())
    Draft7Validator.check_schema(schema)
    assert set(_open(schema)) == KUBERNETES_OWN


def test_chart_carries_no_trace_of_a_machine() -> None:
    """No file of the chart names a path of the machine it was made on."""
    assert not [path for path in CHART.rglob("*") if path.is_file() and str(ROOT) in path.read_text()]
