"""Alerts and dashboard ask for metrics that the service has, by labels that these have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from chart.helm import CHART
from executor_api.http.cluster_metrics import ClusterMetrics
from executor_api.http.metrics import OUTCOMES, Metrics
from executor_api.http.pool_metrics import PoolMetrics

_NAME = re.compile(r"\b(?:executor|process)_[a-z_]+")
_ENDINGS = ("_bucket", "_count", "_sum", "_total", "")


def _known() -> set[str]:
    """All names that a scrape can show."""
    registry = Metrics().registry
    ClusterMetrics(registry)
    registry.register(PoolMetrics(lambda: ()))
    return set(_names(registry))


def _names(registry: CollectorRegistry) -> Iterator[str]:
    for family in registry.collect():
        kinds = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
        yield from (family.name + ending for ending in kinds[family.type])
        yield from (sample.name for sample in family.samples)


def _alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _queries() -> list[str]:
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in _alerts()), *_queries()])
def test_metrics_exist(expression: str) -> None:
    """Each name in the expression is one that the service exposes, and its brackets are balanced."""
    wanted = set(_NAME.findall(expression))
    assert wanted
    assert wanted <= _known()
    assert [expression.count(a) for a in "({["] == [expression.count(b) for b in ")}]"]


def test_outcomes_exist() -> None:
    """Alerts about endings name outcomes that there are."""
    named = {name for rule in _alerts() for name in re.findall(r'outcome="(\w+)"', rule["expr"])}
    assert named
    assert named <= set(OUTCOMES.values())


def test_alerts_say_what_to_do() -> None:
    """Each alert has a severity, a summary and a description, and a name of its own."""
    rules = _alerts()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description"}
