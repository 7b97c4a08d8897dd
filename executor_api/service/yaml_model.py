"""A YAML file as a pydantic model: right as a whole, or refused with the place of every mistake."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from executor_api.errors import ConfigurationError
from executor_api.service.yaml_source import Location, Place, YamlSource, read_yaml

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing that is wrong, and where."""

    place: Place
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


def read_model(path: Path, model: type[Model]) -> tuple[Model, YamlSource]:
    """The file's values, and where they stand. Raises `ConfigurationError` with a line for each mistake."""
    source = read_yaml(path)
    try:
        return model.model_validate(source.value), source
    except ValidationError as error:
        mistakes = [_describe(model, source, problem) for problem in error.errors(include_url=False)]
    raise refusal(mistakes)


def refusal(mistakes: Iterable[Mistake]) -> ConfigurationError:
    """An error with a line for each mistake, in the order of the file."""
    return ConfigurationError("\n".join(str(mistake) for mistake in sorted(mistakes)))


def repeated(source: YamlSource, items: str, field: str, values: Iterable[str]) -> list[Mistake]:
    """A mistake for each value of the field that an earlier item of the list has too."""
    first: dict[str, int] = {}
    return [
        Mistake(
            source.place((items, index, field)),
            f"{items}[{index}].{field}: {value!r} is also the {field} of {items}[{first[value]}]; each needs its own",
        )
        for index, value in enumerate(values)
        if first.setdefault(value, index) != index
    ]


def sentence(problem: Any) -> str:
    """What pydantic says of one value, in our words."""
    found = _WORDS.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
    return str(re.sub(r"^(Input|String|Tuple|List) should", "must", found))


def schema_text(model: type[BaseModel]) -> str:
    """The published JSON schema of a file, as it is printed and committed."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | model.model_json_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


_WORDS = {
    "missing": "is missing",
    "string_type": "must be text; put it in quotes",
    "model_type": "must be a mapping of field names to values",
    "dict_type": "must be a mapping of names to values",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
}
"""Our words where pydantic's speak of Python; its own name the allowed values well."""


def _describe(model: type[BaseModel], source: YamlSource, problem: Any) -> Mistake:
    location = problem["loc"]
    unknown = problem["type"] == "extra_forbidden"
    message = _unknown_field(model, location) if unknown else sentence(problem)
    return Mistake(source.place(location, key=unknown), _path(location) + message)


def _path(location: Location) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    text = "".join(parts).removeprefix(".")
    return f"{text}: " if text else "the file "


def _unknown_field(model: type[BaseModel], location: Location) -> str:
    known = sorted(_known_fields(model, location[:-1]))
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown field; {meant}There are: {', '.join(known)}"


def _known_fields(model: type[BaseModel], location: Location) -> list[str]:
    """Field names of the object at a location, read off the schema."""
    schema = model.model_json_schema()
    node = schema
    for part in location:
        if isinstance(part, int):
            node = node["items"]
        else:
            node = node.get("properties", {}).get(part) or node["additionalProperties"]
        node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    return list(node["properties"])
