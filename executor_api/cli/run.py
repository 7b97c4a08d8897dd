"""``executor-api run``: one call, streamed to the terminal; the exit code is the call's."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any
from uuid import uuid4

import click

from executor_api.cli.ending import Ending, exit_code, explanation
from executor_api.cli.failures import ExitCode
from executor_api.cli.options import api_key_option, pairs
from executor_api.cli.terminal import Terminal

_LANGUAGES = {".sh": "bash", ".bash": "bash"}
_ARGV = "executor_api.argv"


class RunCommand(click.Command):
    """Keeps what follows ``--`` apart: it is an argv, while a bare argument is code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Split at the first ``--``."""
        if "--" in args:
            place = args.index("--")
            ctx.meta[_ARGV] = args[place + 1 :]
            args = args[:place]
        return super().parse_args(ctx, args)


@click.command(
    cls=RunCommand, short_help="Run one call; its output and exit code are ours.", options_metavar="[OPTIONS]"
)
@click.argument("code", required=False)
@click.option("--file", "-f", metavar="FILE", help="Read the code from FILE, or - for standard input.")
@click.option("--command", "-c", metavar="SHELL", help="Run a shell command instead of code.")
@click.option("--language", "-l", help="Language of the code.  [default: python, or by FILE's ending]")
@click.option("--timeout", "-t", type=float, metavar="SECONDS", help="End the call after this long.")
@click.option("--template", help="Template of the sandbox.")
@click.option("--env", "-e", multiple=True, metavar="NAME=VALUE", callback=pairs, help="Set a variable; repeatable.")
@click.option("--label", multiple=True, metavar="NAME=VALUE", callback=pairs, help="Label the call; repeatable.")
@click.option("--stdin-file", metavar="FILE", help="Text for the call's standard input, or - for our own.")
@click.option(
    "--url", envvar="EXECUTOR_URL", default="", help="Run at this service (or EXECUTOR_URL), not on this machine."
)
@api_key_option
@click.option(
    "--templates",
    envvar="EXECUTOR_TEMPLATES",
    default="",
    metavar="FILE",
    help="Templates of calls on this machine (or EXECUTOR_TEMPLATES).",
)
@click.pass_context
def run(context: click.Context, /, url: str, api_key: str, templates: str, **options: Any) -> None:
    """Run CODE, a shell command (-c) or a program (after --) in a sandbox, and pass its output on as it comes.

    \b
    executor-api run 'print(1)'
    executor-api run -c 'df -h | sort'
    executor-api run -- python3 -V

    Exit code: the call's own; 128 + N if signal N ended it; 124 after a timeout; 125 if it failed for another
    reason; 2 if the request is refused; 3 if the service is not available.
    """  # noqa: D301 - click takes a backspace for "keep these lines"
    request = _request(options, context.meta.get(_ARGV))
    terminal = Terminal()
    context.exit(_supervise(lambda: _run(request, url, api_key, templates, terminal), terminal))


def _supervise(call: Callable[[], Ending], terminal: Terminal) -> int:
    """The exit code of the call. Ctrl-C, SIGTERM and a reader that leaves end it; it cleans up behind itself."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    terminal.interrupt_when_abandoned()
    try:
        ending = call()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left to interrupt
    except KeyboardInterrupt:
        return ExitCode.BROKEN_PIPE if terminal.abandoned else ExitCode.INTERRUPTED
    finally:
        terminal.close()
    sentence = explanation(ending)
    if sentence is not None:
        terminal.tell(sentence)
    return exit_code(ending)


def _run(request: Mapping[str, Any], url: str, api_key: str, templates: str, terminal: Terminal) -> Ending:
    if not url:
        from executor_api.cli.here import run_here  # noqa: PLC0415 - heavy, and only one of the two is needed

        return run_here(request, templates, terminal)
    from executor_api.cli.client import Client  # noqa: PLC0415 - the same
    from executor_api.cli.remote import RemoteCall  # noqa: PLC0415 - the same

    client = Client(url, api_key)
    try:
        return RemoteCall(client, request, str(uuid4()), terminal).run()
    finally:
        client.close()


def _request(options: Mapping[str, Any], argv: list[str] | None) -> dict[str, Any]:
    """The body of the request: only what was given, so that the service's defaults hold."""
    given = {name: options[name] for name in ("code", "file", "command") if options[name] is not None}
    if argv is not None:
        given["argv"] = argv
    if len(given) != 1:
        raise click.UsageError("give exactly one of CODE, --file, --command and `-- ARGV`")
    fields = {
        **_what(given),
        "timeout_seconds": options["timeout"],
        "template": options["template"],
        "env": options["env"],
        "labels": options["label"],
    }
    fields["language"] = options["language"] or fields.get("language")
    if options["stdin_file"] is not None:
        fields["stdin"] = _read_text(options["stdin_file"])
    return {name: value for name, value in fields.items() if value not in (None, {})}


def _what(given: Mapping[str, Any]) -> dict[str, Any]:
    if "argv" in given or "command" in given:
        return {"command": given.get("argv", given.get("command"))}
    if "file" in given:
        return {"code": _read_text(given["file"]), "language": _LANGUAGES.get(PurePath(given["file"]).suffix)}
    return {"code": _read_text("-") if given["code"] == "-" else given["code"]}


def _read_text(name: str) -> str:
    try:
        return (sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()).decode()
    except OSError as error:
        raise click.UsageError(f"{name} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{name} is not UTF-8 text: byte {error.start} is {error.reason}") from error
