"""``executor-api serve``: every setting as a flag and a variable, made from its one description."""

from __future__ import annotations

import os
from math import isfinite
from typing import Any

import click

from executor_api.cli.failures import Refused
from executor_api.cli.settings import default_text
from executor_api.errors import ConfigurationError
from executor_api.settings import SettingInfo, Settings, describe_settings

GROUPS = {
    "Where": ("backend", "host", "port", "metrics_port", "data_dir", "store_url"),
    "Callers": (
        "api_key",
        "api_keys",
        "oidc_issuer",
        "oidc_audience",
        "oidc_tenant_claim",
        "oidc_default_scopes",
        "token_review_audience",
        "tenants",
        "no_auth",
    ),
    "Sandboxes": (
        "templates",
        "pool",
        "image",
        "namespace",
        "owner_lease",
        "kubeconfig",
        "context",
        "dispatch",
        "require_network_policy",
        "master_key",
    ),
    "Limits": (
        "max_concurrency",
        "max_cold_starts",
        "max_queue",
        "sync_wait_seconds",
        "max_body_bytes",
        "body_timeout_seconds",
        "keep_seconds",
        "keep_bytes",
        "drain_seconds",
        "shutdown_seconds",
    ),
    "Logs and traces": ("log_format", "log_level", "tracing"),
}
"""Headings of the help, and which settings stand below each."""

_UNITS = {"bytes": "BYTES", "seconds": "SECONDS"}


class WholeNumber(click.IntRange):
    """Says so when it gets something else."""

    name = "whole number"


class Number(click.FloatRange):
    """A finite one."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Refuse what is not finite too."""
        number: float = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


_RANGES: dict[str, click.ParamType[Any]] = {
    "port": WholeNumber(0, 65535),
    "metrics_port": WholeNumber(0, 65535),
    "max_concurrency": WholeNumber(min=1),
    "max_cold_starts": WholeNumber(min=1),
}
_TYPES: dict[type, click.ParamType[Any]] = {
    str: click.STRING,
    int: WholeNumber(min=0),
    float: Number(min=0),
    bool: click.BOOL,
}


class SettingOption(click.Option):
    """A flag whose mistakes name its variable too: the value may have come from there."""

    def __init__(self, info: SettingInfo) -> None:
        self.info = info
        unit = _UNITS.get(info.name.rpartition("_")[2], "TEXT" if info.type is str else "N")
        super().__init__(
            [info.flag, info.name],
            type=click.Choice(info.choices) if info.choices else _RANGES.get(info.name, _TYPES[info.type]),
            is_flag=info.type is bool,
            metavar=None if info.choices or info.type is bool else unit,
            default=info.default,
            envvar=info.variable,
            help=info.help,
        )

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """The flag, and its meaning with the default; what else is allowed is told to whom it concerns."""
        flag = (super().get_help_record(ctx) or (self.info.flag,))[0]
        default = f"  [default: {default_text(self.info)}]" if self.info.default not in {"", False} else ""
        return flag, self.info.help + default

    def get_error_hint(self, ctx: click.Context | None) -> str:  # noqa: ARG002 - click's signature
        """The flag and the variable."""
        return f"'{self.info.flag}' (or {self.info.variable})"


class GroupedCommand(click.Command):
    """Lists options below headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section a group, and click's own options last."""
        options = {option.name: option for option in self.get_params(ctx)}
        grouped = {name for names in GROUPS.values() for name in names}
        sections = {**GROUPS, "Other": tuple(name for name in options if name not in grouped)}
        for heading, names in sections.items():
            records = [options[name].get_help_record(ctx) for name in names]
            with formatter.section(heading):
                formatter.write_dl([record for record in records if record is not None])


@click.command(
    cls=GroupedCommand, short_help="Serve the HTTP API.", params=[SettingOption(info) for info in describe_settings()]
)
def serve(**values: Any) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C, then let running calls end.

    Each flag is also a variable: --max-queue is EXECUTOR_MAX_QUEUE. `executor-api settings` has them all in a table.
    """
    from executor_api.app import serve as serve_until_told  # noqa: PLC0415 - heavy, and --help does not need it
    from executor_api.telemetry import configure_logging  # noqa: PLC0415 - the same

    settings = Settings(**values)
    configure_logging(settings.log_format, settings.log_level)
    try:
        serve_until_told(settings, os.environ)
    except ConfigurationError as error:
        raise Refused(str(error)) from error
