"""``executor-api settings``: the table of all settings; docs/settings.md is a copy of it."""

from __future__ import annotations

import click

from executor_api.settings import SettingInfo, describe_settings

_INTRODUCTION = """\
# Settings

Every setting of `executor-api serve` is a flag and a variable; the flag wins. An empty variable counts as unset.
Durations are in seconds, sizes in bytes. Keep secrets in the environment: flags show in process lists.

| Flag | Variable | Default | Meaning |
|---|---|---|---|
"""


@click.command
def settings() -> None:
    """Print all settings as a Markdown table."""
    click.echo(settings_page(), nl=False)


def settings_page() -> str:
    """The whole page."""
    return _INTRODUCTION + "".join(_row(info) for info in describe_settings())


def _row(info: SettingInfo) -> str:
    default = "" if info.default in ("", False) and info.type is not int else f"`{default_text(info)}`"
    choices = f" One of: {', '.join(f'`{choice}`' for choice in info.choices)}." if info.choices else ""
    secret = " Secret." if info.secret else ""
    return f"| `{info.flag}` | `{info.variable}` | {default} | {info.help}{choices}{secret} |\n"


def default_text(info: SettingInfo) -> str:
    """The default as one would type it."""
    return f"{info.default:.15g}" if isinstance(info.default, float) else str(info.default)
