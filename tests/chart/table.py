"""The table of a chart's values, from the comments of values.yaml that begin with ``# --``."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

_KEY = re.compile(r"^( *)([A-Za-z]\w*):")
_TOO_LONG = 60


def table(text: str) -> str:
    """A row for each value that has a comment, or is a leaf. Raises `ValueError` for a leaf without one."""
    rows = ["| Value | Default | Meaning |", "|---|---|---|"]
    defaults = yaml.safe_load(text)
    path: list[str] = []
    comment = ""
    silent_below = -1  # the indent of a value that is told as a whole
    for line in text.splitlines():
        if line.strip().startswith("# -- "):
            comment = line.strip().removeprefix("# -- ")
            continue
        match = _KEY.match(line)
        if not match:
            continue
        indent = len(match[1])
        path = [*path[: indent // 2], match[2]]
        if 0 <= silent_below < indent:
            continue
        silent_below = -1
        value = _at(defaults, path)
        if comment:
            rows.append(f"| `{'.'.join(path)}` | {_shown(value)} | {comment} |")
            silent_below = indent
        elif not isinstance(value, dict) or not value:
            raise ValueError(f"values.yaml: {'.'.join(path)} has no comment that begins with `# --`")
        comment = ""
    return "\n".join(rows) + "\n"


def _at(values: Any, path: list[str]) -> Any:
    for key in path:
        values = values[key]
    return values


def _shown(value: Any) -> str:
    if value == "":
        return ""
    text = json.dumps(value)
    return f"`{text}`" if len(text) <= _TOO_LONG else "see values.yaml"
