"""``executor-api doctor``: what is in the way of calls, and how to mend it, before the first one."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from executor_api.cli.failures import Refused
from executor_api.cli.serve import SettingOption
from executor_api.errors import ConfigurationError
from executor_api.settings import Settings, describe_settings

if TYPE_CHECKING:
    from executor_api.domain.finding import Finding

CONCERNED = (
    *("backend", "namespace", "kubeconfig", "context", "image", "templates", "tenants", "pool", "dispatch"),
    *("owner_lease", "require_network_policy", "tracing"),
    *("api_keys", "oidc_issuer", "oidc_audience", "oidc_tenant_claim", "oidc_default_scopes", "token_review_audience"),
)
"""Settings of `serve` that decide what a call needs, and where its trace goes."""
_COLORS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(
    short_help="Check everything that calls will need.",
    params=[SettingOption(info) for info in describe_settings() if info.name in CONCERNED],
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(*, as_json: bool, **values: Any) -> None:
    """Check everything that calls will need, with the settings of `executor-api serve`.

    A line for each check: ok; warn for what calls can do without; fail, with the fix, for what they can't. The exit
    code is 1 if anything fails. In a cluster this starts one sandbox of each image and runtime, and removes it again.
    """
    import asyncio  # noqa: PLC0415 - heavy, and --help does not need it

    from executor_api.app import diagnose  # noqa: PLC0415 - the same
    from executor_api.telemetry import configure_logging  # noqa: PLC0415 - the same

    configure_logging("text", "error")
    findings: list[Finding] = []

    def take(finding: Finding) -> None:
        findings.append(finding)
        if not as_json:
            _print(finding)

    try:
        asyncio.run(diagnose(Settings(**values), os.environ, take))
    except ConfigurationError as error:
        raise Refused(str(error)) from error
    if as_json:
        shown = [{"check": item.check, "verdict": item.verdict, "text": item.text} for item in findings]
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    sys.exit(any(item.verdict == "fail" for item in findings))


def _print(finding: Finding) -> None:
    colors = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    verdict = click.style(f"{finding.verdict:4}", fg=_COLORS[finding.verdict], bold=True)
    click.echo(f"{verdict}  {finding.check}: {finding.text}", color=colors)
