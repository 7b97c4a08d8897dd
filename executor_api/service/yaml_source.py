"""A YAML file as plain values that still know where they stand, so that a mistake can name its line and column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from executor_api.errors import ConfigurationError

try:
    from yaml import CSafeLoader as FastLoader
except ImportError:  # built without libyaml
    from yaml import SafeLoader as FastLoader  # type: ignore[assignment]

Location = Sequence[int | str]
"""Keys and indexes from the top of the document, as pydantic reports them."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where in a file: counted from 1, as editors do; 0 if it is the file as a whole."""

    path: Path
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        parts = (str(self.path), *(str(number) for number in (self.line, self.column) if number))
        return ":".join(parts)


@dataclass(frozen=True, slots=True)
class YamlSource:
    """One document: its values, and the nodes they were made from."""

    path: Path
    value: Any
    root: yaml.Node | None

    def place(self, location: Location, *, key: bool = False) -> Place:
        """The place of the value there, or of its key; of the nearest thing around it if it is missing."""
        node, found = self.root, self.root
        for part in location:
            pair = _child(node, part)
            if pair is None:
                break
            name, node = pair
            found = name if key and part is location[-1] else node
        return _place(self.path, found.start_mark if found is not None else None)


def read_yaml(path: Path) -> YamlSource:
    """Read one document of plain data. Raises `ConfigurationError` naming the place of a mistake."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text: byte {error.start} is {error.reason}") from error
    try:
        return _parse(path, text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigurationError(
            f"{Place(path, line)}: YAML does not allow the character {error.character!r}"
        ) from error
    except yaml.MarkedYAMLError as error:
        raise ConfigurationError(f"{_place(path, error.problem_mark)}: not YAML: {error.problem}") from error


def _without_times(resolvers: dict[Any, list[tuple[str, Any]]]) -> dict[Any, list[tuple[str, Any]]]:
    return {
        first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
        for first, found in resolvers.items()
    }


class _Loader(FastLoader):
    """Times stay text, as they are in JSON: whoever wants one says so, and can name a wrong one's place."""

    yaml_implicit_resolvers = _without_times(yaml.SafeLoader.yaml_implicit_resolvers)


def _parse(path: Path, text: str) -> YamlSource:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        for node in _duplicate_keys(root, set()):
            raise ConfigurationError(f"{_place(path, node.start_mark)}: {node.value!r} appears twice in this mapping")
        # Constructing resolves merges (<<) in the nodes too, hence duplicates are looked for before.
        value = loader.construct_document(root) if root is not None else None
        return YamlSource(path, value, root)
    except (ValueError, KeyError, AttributeError) as error:
        raise ConfigurationError(f"{path}: a value does not fit its `!!` tag: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: is nested too deeply") from None
    finally:
        loader.dispose()


def _duplicate_keys(node: yaml.Node | None, seen: set[int]) -> Iterator[yaml.Node]:
    if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
        return  # an alias leads to a node that was looked at
    seen.add(id(node))
    names = set()
    for child in node.value:
        name, value = child if isinstance(child, tuple) else (None, child)
        if isinstance(name, yaml.ScalarNode):
            if (name.tag, name.value) in names:
                yield name
            names.add((name.tag, name.value))
        yield from _duplicate_keys(value, seen)


def _child(node: yaml.Node | None, part: int | str) -> tuple[yaml.Node, yaml.Node] | None:
    """Key and value below a node; an item of a list stands for its own key."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    if isinstance(node, yaml.MappingNode):
        pairs = [(name, value) for name, value in node.value if name.value == str(part)]
        return pairs[-1] if pairs else None  # a merged mapping's pairs come before those that override them
    return None


def _place(path: Path, mark: yaml.Mark | None) -> Place:
    return Place(path, mark.line + 1, mark.column + 1) if mark is not None else Place(path)
