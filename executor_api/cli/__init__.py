"""The command line. Each command is imported when it is asked for, and what is heavy only when it runs."""

from __future__ import annotations

from importlib import import_module

import click

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
_COMMANDS = {
    "cancel": "inspection",
    "doctor": "doctor",
    "explain": "inspection",
    "get": "inspection",
    "keys": "keys",
    "list": "inspection",
    "monitor": "monitor",
    "pool": "inspection",
    "run": "run",
    "serve": "serve",
    "settings": "settings",
    "templates": "templates",
    "triage": "triage",
}
"""And the module that each is in."""


class _Commands(click.Group):
    """Knows their names before it has imported them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All of them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        """Import one; None if there is no such command."""
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"executor_api.cli.{_COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, "list_" if cmd_name == "list" else cmd_name)
        return command


@click.group(cls=_Commands, context_settings=CONTEXT)
@click.version_option(package_name="executor-api", message="%(prog)s %(version)s")
def main() -> None:
    """Run every function call of an LLM agent in a sandbox of its own.

    `executor-api run 'print(1)'` runs a call right here; `executor-api serve` starts the HTTP service.
    """
