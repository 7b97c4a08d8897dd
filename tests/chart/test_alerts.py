"""Each alert fires when it should and not before, as Prometheus reckons: ``promtool test rules``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.helm import CHART
from chart.pods import of_kind
from chart.promtool import needs_promtool, promtool

RULES = CHART / "files" / "alerts.yaml"
CASES: dict[str, list[dict[str, Any]]] = yaml.safe_load(Path(__file__).with_name("alerts.yaml").read_text())


def _groups() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
    return found


def _try(folder: Path, groups: list[dict[str, Any]], tests: list[dict[str, Any]]) -> None:
    """Let promtool run the tests on the rules. JSON is YAML."""
    (folder / "rules.yaml").write_text(json.dumps({"groups": groups}))
    suite = {"rule_files": ["rules.yaml"], "evaluation_interval": "30s", "tests": tests}
    (folder / "test.yaml").write_text(json.dumps(suite))
    assert "SUCCESS" in promtool(folder, "test", "rules", "test.yaml")


def _test(series: dict[str, str], alerts: list[dict[str, Any]]) -> dict[str, Any]:
    assert all(isinstance(values, str) for values in series.values()), "YAML takes 0x10 for 16: quote it"
    samples = [{"series": name, "values": values} for name, values in series.items()]
    return {"interval": "30s", "input_series": samples, "alert_rule_test": alerts}


def test_every_alert_is_tried_both_ways() -> None:
    """There are cases for each alert and for no other, with a moment where it fires and one where it does not."""
    assert list(CASES) == [rule["alert"] for group in _groups() for rule in group["rules"]]
    for name, cases in CASES.items():
        moments = [fired for case in cases for fired in case["expect"].values()]
        assert {bool(fired) for fired in moments} == {True, False}, name


@needs_promtool
@pytest.mark.parametrize("alert", CASES)
def test_alert_fires_when_it_should(alert: str, tmp_path: Path) -> None:
    """At each moment of its cases the alert fires for exactly those series, with their labels and severity."""
    rules = [{**rule, "annotations": {}} for group in _groups() for rule in group["rules"] if rule["alert"] == alert]
    tests = []
    for case in CASES[alert]:
        moments = [
            {"eval_time": time, "alertname": alert, "exp_alerts": [{"exp_labels": labels} for labels in fired]}
            for time, fired in case["expect"].items()
        ]
        tests.append(_test(case["series"], moments))
    _try(tmp_path, [{"name": "one", "rules": rules}], tests)


@needs_promtool
@pytest.mark.parametrize(
    ("labels", "where", "command"),
    [
        ({"instance": "10.0.0.1:9900"}, "10.0.0.1:9900", "executor-api triage"),
        (
            {"instance": "10.0.0.1:9900", "namespace": "n", "pod": "p", "node": "worker-1"},
            "worker-1",
            "kubectl exec -n n p -- executor-api triage",
        ),
    ],
)
def test_alert_names_the_command_to_type(labels: dict[str, str], where: str, command: str, tmp_path: Path) -> None:
    """An alert says where it is and what to type there, on a host as well as in a cluster."""
    series = "agent_zombie_processes{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
    expected = {
        "exp_labels": {"severity": "warning", **labels},
        "exp_annotations": {
            "summary": f"60 zombies on {where}.",
            "description": "A parent does not wait for its children; at 100 it is critical. "
            f"There, `{command}` names it and what ends them.",
        },
    }
    moment = {"eval_time": "5m", "alertname": "AgentZombiesWarning", "exp_alerts": [expected]}
    _try(tmp_path, _groups(), [_test({series: "60x20"}, [moment])])


@needs_promtool
def test_prometheus_loads_the_file_as_it_is() -> None:
    """A Prometheus without an operator takes the file and every template in it."""
    assert "SUCCESS" in promtool(CHART, "check", "rules", "--lint=all", "--lint-fatal", str(RULES))


def test_the_chart_gives_the_same_rules_to_the_operator() -> None:
    """The PrometheusRule holds the groups of the file, unchanged by Helm's own templates."""
    [rule] = of_kind({"metrics": {"rules": {"enabled": True}}}, "PrometheusRule")
    assert rule["spec"] == {"groups": _groups()}
