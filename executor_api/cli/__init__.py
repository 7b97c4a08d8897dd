"""The command line. Commands import what is heavy only when they run, so that ``--help`` answers at once."""

from __future__ import annotations

import click

from executor_api.cli.doctor import doctor
from executor_api.cli.inspection import cancel, explain, get, list_, pool
from executor_api.cli.keys import keys
from executor_api.cli.monitor import monitor
from executor_api.cli.run import run
from executor_api.cli.serve import serve
from executor_api.cli.settings import settings
from executor_api.cli.templates import templates

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="executor-api", message="%(prog)s %(version)s")
def main() -> None:
    """Run every function call of an LLM agent in a sandbox of its own.

    `executor-api run 'print(1)'` runs a call right here; `executor-api serve` starts the HTTP service.
    """


for command in (serve, run, doctor, get, list_, cancel, explain, pool, templates, keys, settings, monitor):
    main.add_command(command)
