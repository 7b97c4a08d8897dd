"""``executor-api triage``: what is wrong with a sick machine, on one screen. Imports little: it must start there."""

from __future__ import annotations

import os
import sys

import click

from executor_api.cli.failures import Refused
from executor_api.processes.process_table import PROC
from executor_api.processes.triage.actions import Hands, kill, nudge_parents, restart_parent
from executor_api.processes.triage.examination import examine
from executor_api.processes.triage.facts import Situation
from executor_api.processes.triage.finding import Finding, Severity
from executor_api.processes.triage.findings import find, main_culprit
from executor_api.processes.triage.signals import RefusedError
from executor_api.processes.triage.wording import describe, several

_COLORS = {Severity.CRITICAL: "red", Severity.WARNING: "yellow", Severity.NOTICE: "cyan"}
_MOST_SHOWN = 6
"""Findings of three lines each, so that all fits a terminal of 24."""
_PID = click.IntRange(min=1)


@click.command(short_help="Say what is wrong with this machine's processes, and what to do.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
@click.option("--nudge", is_flag=True, help="Send SIGCHLD to the parents of zombies, and count what that changes.")
@click.option("--restart-parent", type=_PID, metavar="PID", help="End a process by SIGTERM, its zombies with it.")
@click.option("--kill", "kill_pid", type=_PID, metavar="PID", help="End a process by SIGKILL.")
@click.option("--yes", is_flag=True, help="Don't ask before a process is ended.")
@click.option("--proc", default=PROC, show_default=True, metavar="PATH", help="Look at the processes of this /proc.")
def triage(
    *, as_json: bool, nudge: bool, restart_parent: int | None, kill_pid: int | None, yes: bool, proc: str
) -> None:
    """Say what is wrong with the processes of this machine: worst first, who made it, and what to do.

    It looks at zombies, processes in D state, open descriptors, limits and GPUs. It uses no network, and starts no
    process but one that asks the driver of GPUs. The exit code is 1 if something is wrong that is more than a notice,
    or if what it was told to do did not work.
    """
    _check(proc, acts=nudge or restart_parent is not None or kill_pid is not None)
    if restart_parent is not None and kill_pid is not None:
        raise Refused("give one of --restart-parent and --kill, and look again before the other")
    situation = _look(proc)
    findings = find(situation)
    said: list[str] = []
    if not as_json:
        _print(situation, findings)

    def tell(text: str) -> None:
        said.append(text)
        click.echo(text, err=as_json)  # whoever is asked sees whom it is about, whatever takes the JSON

    hands = Hands(tell, lambda question: yes or _ask(question))
    try:
        done = _act(hands, nudge=nudge, restart=restart_parent, kill_pid=kill_pid)
    except Refused as refusal:
        said.append(str(refusal))
        raise
    finally:
        if as_json:
            _print_json(situation, findings, said)
    wrong = any(finding.severity > Severity.NOTICE for finding in findings)
    sys.exit(not done if done is not None else wrong)


def _check(proc: str, *, acts: bool) -> None:
    if acts and proc != PROC:
        raise Refused("--nudge, --restart-parent and --kill act on this machine: leave --proc out")


def _look(proc: str) -> Situation:
    try:
        if proc == PROC:
            return examine()
        return examine(proc, cgroups=None)
    except OSError as error:
        raise Refused(f"--proc {proc} can't be read: {error.strerror}") from error


def _act(hands: Hands, *, nudge: bool, restart: int | None, kill_pid: int | None) -> bool | None:
    """Whether all that was to be done worked; None if nothing was."""
    done = []
    try:
        if nudge:
            done.append(nudge_parents(hands))
        if restart is not None:
            done.append(restart_parent(restart, hands))
        if kill_pid is not None:
            done.append(kill(kill_pid, hands))
    except RefusedError as error:
        raise Refused(str(error)) from error
    return all(done) if done else None


def _ask(question: str) -> bool:
    if not sys.stdin.isatty():
        raise Refused("there is no terminal to ask on whether the process may be ended: say --yes")
    return click.confirm(question, err=True)


def _print(situation: Situation, findings: list[Finding]) -> None:
    colors = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for line in _screen(situation, findings):
        click.echo(line, color=colors)


def _screen(situation: Situation, findings: list[Finding]) -> list[str]:
    """The whole screen."""
    stuck = several(situation.stuck_in_all, "process stuck in D state", "processes stuck in D state")
    lines = [f"{several(situation.processes, 'process', 'processes')}, {several(situation.zombies, 'zombie')}, {stuck}"]
    if not findings:
        lines.append("nothing is wrong that can be seen from here")
    culprit = main_culprit(findings)
    if culprit is not None:
        lines.append(click.style(f"more than one thing leads to {describe(culprit)}", bold=True))
    for finding in findings[:_MOST_SHOWN]:
        label = click.style(f"{finding.severity.name:8}", fg=_COLORS[finding.severity], bold=True)
        lines += [f"{label}  {finding.what}", f"     who  {finding.who}", f"      do  {finding.do}"]
    if len(findings) > _MOST_SHOWN:
        lines.append(f"and {len(findings) - _MOST_SHOWN} more: executor-api triage --json")
    return [*lines, *(f"not seen: {remark}" for remark in situation.remarks)]


def _print_json(situation: Situation, findings: list[Finding], said: list[str]) -> None:
    import json  # noqa: PLC0415 - few ask for it
    from dataclasses import asdict  # noqa: PLC0415 - the same

    culprit = main_culprit(findings)
    whole = {
        "findings": [asdict(finding) | {"severity": finding.severity.name.lower()} for finding in findings],
        "main_culprit": asdict(culprit) if culprit else None,
        "situation": asdict(situation),
        "actions": said,
    }
    click.echo(json.dumps(whole, indent=2, ensure_ascii=False))
