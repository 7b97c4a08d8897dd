"""Helm, in this process: what a chart renders with some values, and what it says of wrong ones."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "executor"
NAME = "x"
NAMESPACE = "ns"

Values = dict[str, Any]
Object = dict[str, Any]


def render(values: Values, name: str = NAME, namespace: str = NAMESPACE) -> dict[str, str]:
    """Texts by the path of their template, empty ones left out."""
    texts = _chart().render(values, name=name, namespace=namespace)
    return {path.removeprefix("executor/templates/"): text for path, text in sorted(texts.items()) if text.strip()}


def objects(values: Values, name: str = NAME, namespace: str = NAMESPACE) -> list[Object]:
    """All objects of a release, hooks included."""
    texts = render(values, name, namespace)
    parsed = (item for path, text in texts.items() if path != "NOTES.txt" for item in yaml.load_all(text, _Strict))
    return [item for item in parsed if item]


def lint(values: Values, kube_version: str) -> list[str]:
    """What `helm lint --strict` has to say."""
    report = helm_python.lint(CHART, values, strict=True, kube_version=kube_version, namespace=NAMESPACE)
    info = 1
    return [f"{item['path']}: {item['error']}" for item in report["messages"] if item["severity"] > info]


def refusal(values: Values) -> str:
    """Why Helm does not render these; empty if it does."""
    try:
        render(values)
    except helm_python.HelmError as error:
        return str(error)
    return ""


def default_values() -> Values:
    """What values.yaml says."""
    found: Values = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def matrix() -> dict[str, Values]:
    """The values of the chart's ci folder, by name."""
    files = sorted((CHART / "ci").glob("*-values.yaml"))
    return {path.name.removesuffix("-values.yaml"): yaml.safe_load(path.read_text()) or {} for path in files}


class _Strict(yaml.SafeLoader):
    """Refuses a key that is there twice, of which only the last would count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Object:  # noqa: FBT001, FBT002 - PyYAML's
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"{node.start_mark}: {twice} twice"
        return super().construct_mapping(node, deep=deep)


@cache
def _chart() -> helm_python.Chart:
    return helm_python.Chart.load(CHART)
