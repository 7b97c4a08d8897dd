"""The OpenAPI document as one page for people: no script, nothing fetched, readable without a network. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code, pre { font: .9em ui-monospace, monospace; background: #8882; border-radius: .2rem; padding: .05em .3em }
pre { padding: .6rem; overflow-x: auto }
table { border-collapse: collapse } td, th { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0 }
"""

Json = Mapping[str, Any]


def page(document: Json) -> str:
    """The whole page."""
    info = document["info"]
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        *(f"<p>{_text(paragraph)}</p>" for paragraph in info["description"].split("\n\n")),
        '<p>For programs: <a href="openapi.json">openapi.json</a>.</p>',
        *(_operation(*operation) for operation in operations),
        "<h2>Shapes</h2>",
        *(_shape(name, schema) for name, schema in document["components"]["schemas"].items()),
    ]
    head = f'<meta charset="utf-8"><title>{escape(info["title"])}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _operation(method: str, path: str, operation: Json) -> str:
    parameters = (
        (f"{parameter['in']} {parameter['name']}", _type(parameter["schema"]), parameter.get("description", ""))
        for parameter in operation.get("parameters", ())
    )
    bodies = operation.get("requestBody", {}).get("content", {}).values()
    answers = operation["responses"].items()
    parts = [
        f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{_text(operation['description'])}</p>",
        _table(parameters),
        *(f"<p>Body: {_type(content['schema'])}</p>{_examples(content)}" for content in bodies),
        _table((status, _contents(answer), answer["description"]) for status, answer in answers),
        *(_examples(content) for _, answer in answers for content in answer.get("content", {}).values()),
    ]
    return "".join(parts)


def _contents(answer: Json) -> str:
    return "<br>".join(
        f"{escape(media_type)}: {_type(content['schema'])}" for media_type, content in answer.get("content", {}).items()
    )


def _examples(content: Json) -> str:
    return "".join(
        f"<details><summary>{escape(name)}</summary><p>{_text(example.get('summary', ''))}</p>"
        f"<pre>{escape(_shown(example['value']))}</pre></details>"
        for name, example in content.get("examples", {}).items()
    )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _shape(name: str, schema: Json) -> str:
    needed = schema.get("required", ())
    fields = (
        (field if field in needed else f"{field} (optional)", _type(inner), inner.get("description", ""))
        for field, inner in schema.get("properties", {}).items()
    )
    values = ", ".join(f"<code>{escape(str(value))}</code>" for value in schema.get("enum", ()))
    text = _text(schema.get("description", ""))
    return f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{text}</p><p>{values}</p>{_table(fields)}'


def _type(schema: Json) -> str:
    """A schema in a few words; shapes are links."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(inner) for inner in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    inner = schema.get("additionalProperties")
    if isinstance(inner, dict):
        return f"object of {_type(inner)}"
    return " ".join((escape(str(schema.get("type", "anything"))), *_bounds(schema)))


def _bounds(schema: Json) -> Iterator[str]:
    for name, sign in (("minimum", "≥"), ("exclusiveMinimum", "&gt;"), ("maximum", "≤")):
        if name in schema:
            yield f"{sign} {schema[name]:g}"


def _table(rows: Iterable[tuple[str, str, str]]) -> str:
    """Name, type (HTML already) and text."""
    lines = (
        f"<tr><td><code>{escape(name)}</code></td><td>{kind}</td><td>{_text(text)}</td></tr>"
        for name, kind, text in rows
    )
    return f"<table>{''.join(lines)}</table>"


def _text(markdown: str) -> str:
    """Prose; what stands in backticks is code."""
    return re.sub(r"(`{1,2})(.+?)\1", r"<code>\2</code>", escape(markdown, quote=False))
