"""Operators' templates: a YAML file that is right as a whole, or refused with the place of every mistake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from executor_api.domain.pool_settings import MOST
from executor_api.domain.template import Template
from executor_api.errors import ConfigurationError
from executor_api.service.yaml_model import Mistake, read_model, refusal, repeated
from executor_api.service.yaml_source import YamlSource


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


def _read(path: Path) -> list[Template]:
    model, source = read_model(path, Templates)
    templates = model.templates
    names = (template.name for template in templates)
    if mistakes := [*repeated(source, "templates", "name", names), *_missing_files(source, templates)]:
        raise refusal(mistakes)
    return [_with_absolute_paths(template, path) for template in templates]


def _missing_files(source: YamlSource, templates: list[Template]) -> list[Mistake]:
    return [
        Mistake(
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
