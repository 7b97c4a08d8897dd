"""The service's pod: its settings, its files, and how it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chart.helm import Values, matrix, objects, render
from chart.pods import environment, of_kind, service_pod
from executor_api.master_key import OWNER_FILE_NAME, owner_id
from executor_api.service.template_file import TemplateFile
from executor_api.service.tenant_file import TenantFile
from executor_api.settings import describe_settings

MATRIX = matrix()
SHARED: Values = {"store": {"existingSecret": "db"}, "replicas": 2}

each_values = pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)


def _spec(values: Values) -> dict[str, Any]:
    (deployment,) = of_kind(values, "Deployment")
    found: dict[str, Any] = deployment["spec"]
    return found


def _files(values: Values, folder: Path) -> Path:
    """What is mounted as the service's configuration."""
    (config,) = (item for item in of_kind(values, "ConfigMap") if "owner.id" in item.get("data", ()))
    for name, text in config["data"].items():
        (folder / name).write_text(text)
    return folder


@each_values
def test_variables_are_settings_of_the_service(values: Values) -> None:
    """Each EXECUTOR_* variable is one that the service knows, with a value of the setting's type."""
    known = {info.variable: info for info in describe_settings()}
    (container,) = service_pod(values)["spec"]["containers"]
    given = [item for item in container["env"] if item["name"].startswith("EXECUTOR_")]
    assert {item["name"] for item in given} <= known.keys()
    for item in given:
        info = known[item["name"]]
        if "value" in item and info.type is not bool:
            info.type(item["value"])


def test_variables_of_the_operator_win() -> None:
    """What `extraEnv` names stands there once, as it says, whether the chart would set it plainly or from a Secret."""
    more = [{"name": f"EXECUTOR_{name}", "value": "1"} for name in ("MAX_QUEUE", "LOG_FORMAT", "PORT", "MASTER_KEY")]
    (container,) = service_pod({"extraEnv": more})["spec"]["containers"]
    names = [item["name"] for item in container["env"]]
    assert len(names) == len(set(names))
    assert container["env"][-len(more) :] == more


def test_traces_go_where_the_values_or_the_operator_say() -> None:
    """Switched on with an address; one in `extraEnv` wins, and is enough."""
    url, name = "http://collector.observability:4318", "OTEL_EXPORTER_OTLP_ENDPOINT"
    found = environment({"tracing": {"enabled": True, "endpoint": url}})
    assert (found["EXECUTOR_TRACING"], found[name]) == ("true", url)
    more: Values = {"extraEnv": [{"name": name, "value": "http://other:4318"}]}
    for endpoint in (url, ""):
        tracing = {"enabled": True, "endpoint": endpoint}
        (container,) = service_pod({**more, "tracing": tracing})["spec"]["containers"]
        assert [item["value"] for item in container["env"] if item["name"] == name] == ["http://other:4318"]
    assert not {"EXECUTOR_TRACING", name} & environment({}).keys()


@each_values
def test_templates_are_what_the_service_reads(values: Values, tmp_path: Path) -> None:
    """The mounted file is right by the service's own reading, and each template has the sandboxes' account."""
    templates = TemplateFile(str(_files(values, tmp_path) / "templates.yaml"), 0).reload()
    wanted = {"default", *(name for name, fields in values.get("templates", {}).items() if fields is not None)}
    assert templates.keys() == wanted
    made = values.get("sandbox", {}).get("serviceAccount", {}).get("create", True)
    assert templates["default"].service_account == ("x-executor-sandbox" if made else None)


def test_tenants_are_what_the_service_reads(tmp_path: Path) -> None:
    """The tenants' limits arrive as written."""
    folder = _files(MATRIX["tenants"], tmp_path)
    tenants = TenantFile(str(folder / "tenants.yaml")).reload({"default"})
    assert tenants.of("research").rate == 100
    assert tenants.of("somebody").max_concurrency == 20
    assert environment(MATRIX["tenants"])["EXECUTOR_TENANTS"] == "/etc/executor/tenants.yaml"
    assert "EXECUTOR_TENANTS" not in environment({})


def test_release_owns_its_sandboxes_whatever_becomes_of_the_data(tmp_path: Path) -> None:
    """A pod with an empty data directory is the same service as the one before: its owner's id is the release's."""
    spec = service_pod({})["spec"]
    (mount,) = (item for item in spec["containers"][0]["volumeMounts"] if item.get("subPath"))
    assert mount["mountPath"] == f"{environment({})['EXECUTOR_DATA_DIR']}/{OWNER_FILE_NAME}"
    assert owner_id(_files({}, tmp_path)) == "ns/x-executor"


@pytest.mark.parametrize(
    "change",
    [
        {"templates": {"default": {"timeout_seconds": 5}}},
        {"auth": {"tenants": {"default": {"rate": 1}}}},
        {"jobTemplates": {"a.yaml.j2": "x"}},
        {"store": {"url": "postgresql://other/db"}},
    ],
    ids=str,
)
def test_change_of_a_file_reaches_the_pods(change: Values) -> None:
    """Pods are replaced by what changes their files or their database, and by nothing that leaves them as they are."""
    assert service_pod(change)["metadata"]["annotations"] != service_pod({})["metadata"]["annotations"]
    assert service_pod({"service": {"port": 81}}) == service_pod({})


def test_one_writer_at_a_time() -> None:
    """With a SQLite file the old pod goes before the new one comes; with a database new ones come first."""
    assert _spec({})["strategy"] == {"type": "Recreate"}
    assert _spec(SHARED)["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert [item["name"] for item in service_pod(SHARED)["spec"]["volumes"]] == ["config", "tmp"]


@each_values
def test_pod_has_time_to_drain(values: Values) -> None:
    """The grace holds the time in which it takes calls, what running ones get then, and some for the last answers."""
    seconds = [float(environment(values)[f"EXECUTOR_{name}_SECONDS"]) for name in ("DRAIN", "SHUTDOWN")]
    assert service_pod(values)["spec"]["terminationGracePeriodSeconds"] >= sum(seconds) + 5
    assert seconds == [
        values.get("drain", {}).get(name, default) for name, default in (("seconds", 5), ("shutdownSeconds", 30))
    ]


def test_several_pods_are_spread_and_not_all_taken_at_once() -> None:
    """Several pods get a disruption budget and spread; one alone gets neither, so that its node can be drained."""
    assert of_kind({}, "PodDisruptionBudget") == []
    assert "topologySpreadConstraints" not in service_pod({})["spec"]
    (budget,) = of_kind(SHARED, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    keys = [item["topologyKey"] for item in service_pod(SHARED)["spec"]["topologySpreadConstraints"]]
    assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]


def test_autoscaler_has_the_say() -> None:
    """With an autoscaler the Deployment names no number of pods, or each upgrade would set it back."""
    assert "replicas" not in _spec(MATRIX["autoscaled"])
    (scaler,) = of_kind(MATRIX["autoscaled"], "HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] == "x-executor"
    assert [item["resource"]["name"] for item in scaler["spec"]["metrics"]] == ["cpu", "memory"]


@each_values
def test_selectors_find_the_pods_they_mean(values: Values) -> None:
    """Service, disruption budget and Deployment select the service's pods, and not the one of `helm test`."""
    labels = service_pod(values)["metadata"]["labels"].items()
    others = [item["metadata"]["labels"].items() for item in of_kind(values, "Pod")]
    selectors = [item["spec"]["selector"] for item in of_kind(values, "Service")]
    selectors += [item["spec"]["selector"]["matchLabels"] for item in objects(values) if item["kind"] in _SELECTING]
    for selector in selectors:
        assert selector.items() <= labels
        assert not any(selector.items() <= other for other in others)


_SELECTING = {"Deployment", "PodDisruptionBudget"}


def test_images_are_named_by_registry_tag_and_digest() -> None:
    """A digest wins over a tag, a registry goes before both images, and the chart's version is the tag by default."""
    assert environment({})["EXECUTOR_IMAGE"].startswith("executor:")
    image: Values = {"repository": "team/api", "tag": "t"}
    assert _image({"image": image}) == "team/api:t"
    digest = f"sha256:{'a' * 64}"
    assert _image({"image": {**image, "digest": digest}}) == f"team/api@{digest}"
    assert _image({"global": {"imageRegistry": "r.example/"}, "image": image}) == "r.example/team/api:t"


def _image(values: Values) -> str:
    found: str = service_pod(values)["spec"]["containers"][0]["image"]
    return found


def test_names_fit_whatever_the_release_is_called() -> None:
    """The longest release name Helm takes still makes names of 63 characters at most."""
    values: Values = {"networkPolicy": {"egress": [{"name": "out", "dns": True}]}}
    for item in objects(values, name="r" * 53):
        assert len(item["metadata"]["name"]) <= 63


def test_notes_show_the_first_call() -> None:
    """What Helm prints after an installation has the first call, with how to read the key, for each way to be told."""
    notes = render({})["NOTES.txt"]
    assert "get secret x-executor-api-key -o jsonpath='{.data.api-key}' | base64 -d" in notes
    assert '--retry-connrefused localhost:8000/execute -H "Authorization: Bearer $KEY"' in notes
    assert "makes no call" not in notes
    assert "Records of executions go with the service's pod" in notes
    assert "Authorization" not in render(MATRIX["placed"])["NOTES.txt"]
    assert "https://executor.example" in render(MATRIX["replicas"])["NOTES.txt"]


def test_test_of_helm_shows_who_it_is() -> None:
    """The test's pod has the key, or a token for the audience; without either it asks for readiness only."""
    (pod,) = of_kind({}, "Pod")
    names = [item["name"] for item in pod["spec"]["containers"][0]["env"]]
    assert names == ["EXECUTOR_URL", "EXECUTOR_API_KEY"]
    (pod,) = of_kind(MATRIX["tenants"], "Pod")
    (source,) = pod["spec"]["volumes"][1]["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "executor"
    only_keys: Values = {"auth": {"apiKey": {"enabled": False}, "apiKeys": {"existingSecret": "k"}}}
    (pod,) = of_kind(only_keys, "Pod")
    assert "/readyz" in pod["spec"]["containers"][0]["args"][0]
    assert "no call was made" in pod["spec"]["containers"][0]["args"][0]
    assert "makes no call" in render(only_keys)["NOTES.txt"]


def test_monitors_find_the_metrics() -> None:
    """A ServiceMonitor selects the metrics' own Service, a PodMonitor the pods; neither is the API's Service."""
    (monitor,) = of_kind(MATRIX["monitored"], "ServiceMonitor")
    selector = monitor["spec"]["selector"]["matchLabels"].items()
    (service,) = (item for item in of_kind(MATRIX["monitored"], "Service") if selector <= _labels(item).items())
    assert [port["name"] for port in service["spec"]["ports"]] == ["metrics"]
    (monitor,) = of_kind(MATRIX["tenants"], "PodMonitor")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service_pod({})["metadata"]["labels"].items()
    (container,) = service_pod({})["spec"]["containers"]
    ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    assert ports == {"http": environment({})["EXECUTOR_PORT"], "metrics": environment({})["EXECUTOR_METRICS_PORT"]}


def _labels(item: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = item["metadata"]["labels"]
    return found
