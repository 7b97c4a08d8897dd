"""``executor-api templates``: the schema of the templates file, and a check of one."""

from __future__ import annotations

import click

from executor_api.cli.failures import Refused
from executor_api.errors import ConfigurationError


@click.group
def templates() -> None:
    """Look after the templates file."""


@templates.command
def schema() -> None:
    """Print the JSON schema of the file."""
    from executor_api.service.template_file import Templates  # noqa: PLC0415 - pydantic is not needed for --help
    from executor_api.service.yaml_model import schema_text  # noqa: PLC0415 - the same

    click.echo(schema_text(Templates), nl=False)


@templates.command
@click.argument("file", type=click.Path())
def check(file: str) -> None:
    """Check FILE: a line for each mistake and exit code 2, or the names of its templates."""
    from executor_api.service.template_file import TemplateFile  # noqa: PLC0415 - pydantic is not needed for --help

    try:
        found = TemplateFile(file).reload()
    except ConfigurationError as error:
        raise Refused(str(error)) from None
    click.echo(f"{file} is right: {', '.join(found)}")
