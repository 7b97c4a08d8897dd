"""Operators' Job templates: YAML with Jinja, rendered once for a `Template` and parsed to a tree. Never user text."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined, TemplateError

from executor_api.backends.kubernetes.restrictions import violations
from executor_api.domain.template import Template
from executor_api.errors import ConfigurationError

BUILT_IN = "sandbox-job.yaml.j2"

Tree = dict[str, Any]


def load_skeleton(template: Template, default_image: str) -> Tree:
    """Render and check the Job template that ``template`` names, or the built-in one. Raises `ConfigurationError`."""
    path = Path(template.job_template) if template.job_template else None
    place = str(path or f"the built-in {BUILT_IN}")
    try:
        source = path.read_text(encoding="utf-8") if path else built_in_source()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Job template {place} of template {template.name!r} can't be read: {error}") from None
    tree = _parse(_render(source, template, default_image, place), place)
    wrong = violations(tree)
    if wrong:
        raise ConfigurationError(f"Job template {place} can't be used: " + "; ".join(wrong))
    return tree


def built_in_source() -> str:
    """Text of the built-in Job template: packaged beside this module, or in the checkout we run from."""
    packaged = files(__package__) / BUILT_IN
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).parents[3] / "manifests" / BUILT_IN).read_text(encoding="utf-8")


def to_yaml(value: Any) -> str:
    """JSON that is YAML, too: pure ASCII, without the surrogate pairs that YAML parsers refuse or garble."""
    text = json.dumps(value, ensure_ascii=False, default=str)  # str() of an undefined value says which it is
    return re.sub(r"[^ -~]", lambda match: _escaped(ord(match[0])), text)


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - the last that \u can write


def _render(source: str, template: Template, default_image: str, place: str) -> str:
    # The output is YAML for a machine, not markup, so HTML escaping would only corrupt it.
    environment = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701
    environment.filters["json"] = to_yaml
    values = {"template": template.model_dump(mode="json"), "image": template.image or default_image}
    try:
        return environment.from_string(source).render(values)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        where = f"{place}, line {line}" if line else place
        raise ConfigurationError(f"Job template {where}: {error.message}") from None
    except (TypeError, ValueError) as error:  # arithmetic and filters on values of another kind
        raise ConfigurationError(f"Job template {place}: {error}") from None


def _parse(text: str, place: str) -> Tree:
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"Job template {place} is no YAML once rendered: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigurationError(f"Job template {place} must be one YAML mapping, a batch/v1 Job")
    return tree
