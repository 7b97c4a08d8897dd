"""Alerts and dashboard ask for metrics that the service and the monitor have."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from chart.helm import CHART
from chart.pods import of_kind
from chart.promtool import needs_promtool, promtool
from executor_api.http.cluster_metrics import ClusterMetrics
from executor_api.http.metrics import OUTCOMES
from executor_api.processes.gpu import Device, GpuReading, Gpus
from executor_api.processes.gpu_exporter import GpuMetrics

_NAME = re.compile(r"\b(?:executor|agent|process)_[a-z_]+")
_ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """All names that a scrape of the monitor or of the service shows; a cluster and GPUs add some."""
    folder = tmp_path_factory.mktemp("data")
    on_a_cluster = CollectorRegistry()
    ClusterMetrics(on_a_cluster)
    return {
        *_names(on_a_cluster.collect()),
        *_names(_of_gpus()),
        *_names(_scrape(folder, "monitor", "--port", "0")),
        *_names(_scrape(folder, "serve", "--port", "0", "--data-dir", str(folder))),
    }


def _scrape(folder: Path, *words: str) -> list[Metric]:
    """What the command exports after its first look at processes."""
    log = folder / f"{words[0]}.log"
    with log.open("w") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "executor_api", *words], stderr=stderr)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            url = re.search(r"http://[\d.]+:\d+", log.read_text())
            text = httpx.get(f"{url[0]}/metrics").text if url else ""
            if "agent_zombie_processes " in text:
                return list(text_string_to_metric_families(text))
            time.sleep(0.1)
    finally:
        process.terminate()
        process.wait(60)


class _OneGpu(Gpus):
    """A machine that has one."""

    def read(self) -> GpuReading:
        return GpuReading((Device("GPU-1", "H100", 80, 40, ()),), number=1)


def _of_gpus() -> list[Metric]:
    exporter = GpuMetrics(_OneGpu())
    exporter.start()
    deadline = time.monotonic() + 60
    while not (found := list(exporter.collect())):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def _names(metrics: Iterable[Metric]) -> Iterator[str]:
    for metric in metrics:
        yield from (metric.name + ending for ending in _ENDINGS[metric.type])
        yield from (sample.name for sample in metric.samples)


def _alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHART / "files" / "dashboard.json").read_text())
    return found


def _queries() -> list[str]:
    return [target["expr"] for panel in _dashboard()["panels"] for target in panel.get("targets", ())]


def _choices() -> list[str]:
    return [item["query"] for item in _dashboard()["templating"]["list"] if item["type"] == "query"]


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in _alerts()), *_queries(), *_choices()])
def test_metrics_exist(expression: str, known: set[str]) -> None:
    """Each name in the expression is one that the service or the monitor exposes, and its brackets are balanced."""
    wanted = set(_NAME.findall(expression))
    assert wanted
    assert wanted <= known
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


def test_what_alerts_is_on_the_dashboard() -> None:
    """Whoever is called by an alert finds a panel for each metric that it asks for."""
    alerts = " ".join(rule["expr"] for rule in _alerts())
    assert set(_NAME.findall(alerts)) <= set(_NAME.findall(" ".join(_queries())))


@needs_promtool
def test_prometheus_understands_the_dashboard(tmp_path: Path) -> None:
    """Every query of a panel is PromQL, with a value for what Grafana puts into it."""
    queries = [query.replace("$__rate_interval", "5m") for query in _queries()]
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(queries)} rules found" in promtool(tmp_path, "check", "rules", "rules.yaml")


def test_panels_stand_beside_each_other() -> None:
    """No panel covers another, none sticks out to the right, each has a title and a name (`id`) of its own."""
    panels = _dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] and (panel["type"] == "row" or panel["targets"]) for panel in panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        x, y, width, height = (panel["gridPos"][side] for side in "xywh")
        cells = {(column, line) for column in range(x, x + width) for line in range(y, y + height)}
        assert x + width <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_chart_gives_the_dashboard_to_grafana() -> None:
    """The ConfigMap holds the file as it is, under the label that Grafana's sidecar looks for."""
    found = of_kind({"metrics": {"dashboard": {"enabled": True}}}, "ConfigMap")
    [dashboard] = (item for item in found if item["metadata"]["labels"].get("grafana_dashboard") == "1")
    assert json.loads(dashboard["data"]["executor.json"]) == _dashboard()
