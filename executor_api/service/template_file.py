"""Operators' templates: a YAML file that is right as a whole, or refused with the place of every mistake."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from executor_api.domain.pool_settings import MOST
from executor_api.domain.template import Template
from executor_api.errors import ConfigurationError
from executor_api.service.yaml_source import Location, Place, YamlSource, read_yaml


class Templates(BaseModel):
    """Templates of executor-api: what sandboxes are made from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    templates: list[Template] = Field(
        description="Each has a name of its own; one called `default` replaces the built-in one."
    )


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """The file at ``path``; an empty path stands for the built-in ``default`` alone.

    ``default_pool`` sandboxes of ``default`` wait, whatever the file says; 0 leaves it to the file.
    """

    path: str
    default_pool: int = 0

    def reload(self) -> dict[str, Template]:
        """Read it anew: templates by name, ``default`` always among them.

        Raises `ConfigurationError` with a line for each mistake; whoever holds the earlier set then keeps it.
        """
        if not 0 <= self.default_pool <= MOST:
            raise ConfigurationError(f"pool: {self.default_pool} must be from 0 to {MOST} (--pool, EXECUTOR_POOL)")
        found = _read(Path(self.path)) if self.path else []
        templates = {"default": Template(name="default")} | {template.name: template for template in found}
        default = templates["default"]
        if self.default_pool:
            pool = default.pool.model_copy(update={"size": self.default_pool, "floor": 0, "ceiling": 0})
            templates["default"] = default.model_copy(update={"pool": pool})
        return templates


def schema_text() -> str:
    """The published JSON schema of the file, as it is printed and committed."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Templates.model_json_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _read(path: Path) -> list[Template]:
    source = read_yaml(path)
    try:
        templates = Templates.model_validate(source.value).templates
    except ValidationError as error:
        mistakes = sorted(_describe(source, problem) for problem in error.errors(include_url=False))
        raise ConfigurationError("\n".join(str(mistake) for mistake in mistakes)) from None
    mistakes = sorted([*_repeated_names(source, templates), *_missing_files(source, templates)])
    if mistakes:
        raise ConfigurationError("\n".join(str(mistake) for mistake in mistakes))
    return [_with_absolute_paths(template, path) for template in templates]


@dataclass(frozen=True, slots=True, order=True)
class _Mistake:
    place: Place
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


def _repeated_names(source: YamlSource, templates: list[Template]) -> list[_Mistake]:
    first: dict[str, int] = {}
    return [
        _Mistake(
            source.place(("templates", index, "name")),
            f"templates[{index}].name: {template.name!r} is also the name of templates[{first[template.name]}]; "
            "each needs its own",
        )
        for index, template in enumerate(templates)
        if first.setdefault(template.name, index) != index
    ]


def _missing_files(source: YamlSource, templates: list[Template]) -> list[_Mistake]:
    return [
        _Mistake(
            source.place(("templates", index, "job_template")),
            f"templates[{index}].job_template: there is no file {file}; the path is relative to this file",
        )
        for index, template in enumerate(templates)
        if template.job_template is not None and not (file := source.path.parent / template.job_template).is_file()
    ]


def _with_absolute_paths(template: Template, path: Path) -> Template:
    if template.job_template is None:
        return template
    return template.model_copy(update={"job_template": str((path.parent / template.job_template).absolute())})


_WORDS = {
    "missing": "is missing",
    "string_type": "must be text; put it in quotes",
    "model_type": "must be a mapping of field names to values",
    "dict_type": "must be a mapping of names to values",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
}
"""Our words where pydantic's speak of Python; its own name the allowed values well."""


def _describe(source: YamlSource, problem: Any) -> _Mistake:
    location, kind = problem["loc"], problem["type"]
    unknown = kind == "extra_forbidden"
    message = _WORDS.get(kind) or problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if unknown:
        message = _unknown_field(location)
    return _Mistake(source.place(location, key=unknown), _path(location) + message)


def _path(location: Location) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    text = "".join(parts).removeprefix(".")
    return f"{text}: " if text else "the file "


def _unknown_field(location: Location) -> str:
    known = sorted(_known_fields(location[:-1]))
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown field; {meant}There are: {', '.join(known)}"


def _known_fields(location: Location) -> list[str]:
    """Field names of the object at a location, read off the schema."""
    schema = Templates.model_json_schema()
    node = schema
    for part in location:
        if isinstance(part, int):
            node = node["items"]
        else:
            node = node.get("properties", {}).get(part) or node["additionalProperties"]
        node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    return list(node["properties"])
