"""Files that are made from others: ``make manifests`` writes them, and a test compares.

Made are the parts of values.schema.json that follow the service's own models, the table of README.md,
manifests/install.yaml, and the renders that the next change is compared with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import BaseModel

from chart.helm import CHART, ROOT, Object, Values, matrix, objects, render
from chart.table import table
from executor_api.cli.serve import SettingOption
from executor_api.domain.tenant import Tenants
from executor_api.service.template_file import Templates
from executor_api.settings import SettingInfo, describe_settings

SCHEMA = CHART / "values.schema.json"
README = CHART / "README.md"
INSTALL = ROOT / "manifests" / "install.yaml"
INSTALL_VALUES = ROOT / "manifests" / "install-values.yaml"
GOLDEN = Path(__file__).parent / "golden"
_OF_HELM = re.compile(
    r"""
    ^\ +(helm\.sh/chart|app\.kubernetes\.io/managed-by):.*\n
    | ^\ +annotations:\n(\ +\#.*\n)*\ +helm\.sh/resource-policy:.*\n
    """,
    re.MULTILINE | re.VERBOSE,
)
"""What only a release of Helm has."""
_BEGIN, _END = "<!-- values: begin -->\n", "<!-- values: end -->\n"

SET_BY_CHART = frozenset({
    *("backend", "host", "port", "metrics_port", "data_dir", "store_url", "master_key"),
    *("drain_seconds", "shutdown_seconds", "tracing"),
    *("namespace", "owner_lease", "image", "dispatch", "templates"),
    *("api_key", "api_keys", "no_auth", "tenants", "token_review_audience"),
    *("oidc_issuer", "oidc_audience", "oidc_tenant_claim", "oidc_default_scopes"),
})  # fmt: skip
"""Settings that have values of their own."""
MEANINGLESS = frozenset({"kubeconfig", "context", "pool"})
"""Settings without a use in a chart: in a cluster there is no kubeconfig, and a template's pool has its own place."""


def files() -> Iterator[tuple[Path, str]]:
    """Each file with the text that it should have. The schema comes first: what Helm renders it checks by that."""
    yield SCHEMA, schema()
    yield README, readme()
    yield INSTALL, install()
    for name, values in matrix().items():
        yield GOLDEN / f"{name}.yaml", golden(values)


def schema() -> str:
    """The chart's schema with the parts that follow the service's models."""
    written = json.loads(SCHEMA.read_text())
    written["properties"]["settings"]["properties"] = {
        _camel(info.name): _of_setting(info)
        for info in describe_settings()
        if info.name not in SET_BY_CHART | MEANINGLESS
    }
    definitions = _definitions(Templates) | _definitions(Tenants)
    template = definitions["Template"]
    del template["required"], template["properties"]["name"]  # the name is its key in the values
    template["type"] = ["object", "null"]
    written["$defs"] = definitions
    return json.dumps(written, indent=2, ensure_ascii=False) + "\n"


def readme() -> str:
    """The chart's README with its table of values."""
    before, rest = README.read_text().split(_BEGIN)
    _, after = rest.split(_END)
    return before + _BEGIN + table((CHART / "values.yaml").read_text()) + _END + after


def install() -> str:
    """Manifests for those who don't use Helm."""
    values = yaml.safe_load(INSTALL_VALUES.read_text())
    texts = render({**values, "tests": {"enabled": False}}, "executor", "executor")
    del texts["NOTES.txt"]
    first = ("extra.yaml", "sandbox/namespace.yaml")  # what others are put into
    ordered = [*first, *(path for path in texts if path not in first)]
    parts = [f"# {path}\n{_OF_HELM.sub('', texts[path]).strip().removeprefix('---').strip()}" for path in ordered]
    about = "".join(line for line in INSTALL_VALUES.read_text().splitlines(keepends=True) if line.startswith("#"))
    return about + "\n".join(f"---\n{part}" for part in parts) + "\n"


def golden(values: Values) -> str:
    """A render without what is new each time."""
    return yaml.dump_all([_without_secrets(item) for item in objects(values)], Dumper=_Readable, width=120)


def write() -> None:
    """Bring every file up to date, and take away renders that nothing makes any more."""
    for path, text in files():
        path.write_text(text)
    for path in GOLDEN.glob("*.yaml"):
        if path.stem not in matrix():
            path.unlink()


class _Readable(yaml.SafeDumper):
    """Shows texts of several lines as such."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Readable.add_representer(str, _Readable.represent_str)


def _without_secrets(item: Object) -> Object:
    if item["kind"] != "Secret":
        return item
    return {**item, "data": dict.fromkeys(item["data"], "left out")}


def _definitions(model: type[BaseModel]) -> dict[str, Any]:
    described = model.model_json_schema()
    found: dict[str, Any] = described.pop("$defs")
    return {name: _plain(item) for name, item in {**found, model.__name__: described}.items()}


def _plain(node: Any) -> Any:
    """Say `null or X` by the type: a mistake is then told in one sentence, not in one for each alternative."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _plain(value) for key, value in node.items()}
    match plain.get("anyOf"):
        case [{"type": str(kind), **rest}, {"type": "null"}]:
            del plain["anyOf"]
            return {**rest, **plain, "type": [kind, "null"]}
    return plain


def _of_setting(info: SettingInfo) -> dict[str, Any]:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    found: dict[str, Any] = {"type": [kinds[info.type], "null"], "description": info.help}
    if info.choices:
        found["enum"] = [*info.choices, None]
    given = SettingOption(info).type
    if isinstance(given, click.IntRange | click.FloatRange):
        found["minimum"] = given.min
    return found


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)


if __name__ == "__main__":
    write()
