"""``executor-api get``, ``list``, ``cancel``, ``explain`` and ``pool``: what the service knows, for all who ask."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from executor_api.cli import tables
from executor_api.cli.failures import tell
from executor_api.cli.options import pairs, service_options

if TYPE_CHECKING:
    from executor_api.cli.client import Client

_JSON = click.option("--json", "as_json", is_flag=True, help="Print the service's JSON.")


@click.command
@click.argument("execution_id", metavar="ID")
@_JSON
@service_options
def get(execution_id: str, url: str, api_key: str, *, as_json: bool) -> None:
    """Show one execution with its output."""
    with _client(url, api_key) as client:
        answer = client.get(execution_id)
    _print(answer, tables.details(answer), as_json=as_json)


@click.command
@click.argument("execution_id", metavar="ID")
@_JSON
@service_options
def cancel(execution_id: str, url: str, api_key: str, *, as_json: bool) -> None:
    """End one execution; asking again does no harm."""
    with _client(url, api_key) as client:
        answer = client.cancel(execution_id)
    asked = " (asked to end)" if answer["cancel_requested"] and answer["finished_at"] is None else ""
    _print(answer, f"{answer['id']} {answer['status']}{asked}", as_json=as_json)


@click.command(name="list")
@click.option("--status", multiple=True, metavar="STATUS", help="queued, starting, running, succeeded ...; repeatable.")
@click.option("--reason", help="For example timeout, out_of_memory.")
@click.option("--template", help="Name of a template.")
@click.option("--label", multiple=True, metavar="NAME=VALUE", callback=pairs, help="Only those with it; repeatable.")
@click.option("--created-after", metavar="INSTANT", help="For example 2026-01-31T12:00:00Z.")
@click.option("--created-before", metavar="INSTANT")
@click.option("--limit", type=int, default=20, show_default=True, help="How many on a page.")
@click.option("--cursor", help="Go on where an earlier page ended.")
@_JSON
@service_options
def list_(url: str, api_key: str, *, as_json: bool, **filters: Any) -> None:
    """List executions, newest first."""
    with _client(url, api_key) as client:
        page = client.list(_parameters(filters))
    _print(page, tables.listing(page["executions"]), as_json=as_json)
    if page["next_cursor"] is not None and not as_json:
        tell(f"there are more: --cursor {page['next_cursor']}")


@click.command
@click.argument("execution_id", metavar="ID")
@_JSON
@service_options
def explain(execution_id: str, url: str, api_key: str, *, as_json: bool) -> None:
    """Say how one execution is, and why."""
    with _client(url, api_key) as client:
        answer = client.explain(execution_id)
    _print(answer, "\n".join([answer["summary"], *answer["sentences"]]), as_json=as_json)


@click.command
@_JSON
@service_options
def pool(url: str, api_key: str, *, as_json: bool) -> None:
    """Show the warm pools and what is wrong."""
    with _client(url, api_key) as client:
        answer = client.pool()
    _print(answer, tables.pools(answer["pools"]), as_json=as_json)


def _parameters(filters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Query parameters: the service checks the values and names what is allowed."""
    labels = [("label", f"{name}={value}") for name, value in filters["label"].items()]
    statuses = [("status", status) for status in filters["status"]]
    single = ("reason", "template", "created_after", "created_before", "limit", "cursor")
    return statuses + labels + [(name, str(filters[name])) for name in single if filters[name] is not None]


@contextmanager
def _client(url: str, api_key: str) -> Iterator[Client]:
    from executor_api.cli.client import Client  # noqa: PLC0415 - httpx is not needed for --help

    client = Client(url, api_key)
    try:
        yield client
    finally:
        client.close()


def _print(answer: Any, text: str, *, as_json: bool) -> None:
    colors = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    click.echo(json.dumps(answer, indent=2, ensure_ascii=False) if as_json else text, color=colors)
