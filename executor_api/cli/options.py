"""Options and values that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

DEFAULT_URL = "http://127.0.0.1:8000"

F = TypeVar("F", bound=Callable[..., Any])


def api_key_option(function: F) -> F:
    """``--api-key``."""
    return click.option(
        "--api-key", envvar="EXECUTOR_API_KEY", default="", help="Key of the service (or EXECUTOR_API_KEY)."
    )(function)


def service_options(function: F) -> F:
    """``--url`` and ``--api-key``, and the service on this machine unless told otherwise."""
    url = click.option(
        "--url", envvar="EXECUTOR_URL", default=DEFAULT_URL, show_default=True, help="The service (or EXECUTOR_URL)."
    )
    return url(api_key_option(function))


def pairs(_context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Callback that reads repeated ``NAME=VALUE``."""
    found = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{text!r} must be written NAME=VALUE", param=parameter)
        found[name] = value
    return found
