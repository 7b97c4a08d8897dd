"""Help, settings and wrong usage: what a person meets first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from executor_api.settings import describe_settings

REPOSITORY = Path(__file__).parents[2]


def test_help_names_every_command(shell: Any) -> None:
    """`--help` lists the commands, each with a line that fits."""
    result = shell.run("--help")
    assert result.returncode == 0
    for command in ("serve", "run", "doctor", "get", "list", "cancel", "templates", "settings", "triage"):
        assert f"\n  {command} " in result.stdout.decode()
    assert b"..." not in result.stdout.partition(b"Commands:")[2]


def test_the_examples_of_run_keep_their_lines(shell: Any) -> None:
    """They can be copied as they stand."""
    lines = shell.run("run", "--help").stdout.decode().splitlines()
    assert "  executor-api run 'print(1)'" in lines
    assert "  executor-api run -- python3 -V" in lines


def test_help_loads_nothing_heavy(shell: Any) -> None:
    """Neither the server, nor the client, nor the models are imported to print a help text."""
    result = shell.run("serve", "--help", PYTHONPROFILEIMPORTTIME="1")
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.decode().splitlines()}
    assert "click" in imported
    assert not imported & {"asyncio", "fastapi", "httpx", "pydantic", "structlog", "uvicorn", "yaml"}


def test_every_setting_is_a_flag_of_serve(shell: Any) -> None:
    """The help of `serve` has each setting below a heading, none left over."""
    text = shell.run("serve", "--help").stdout.decode()
    for info in describe_settings():
        assert f"  {info.flag} " in text
    assert text.split("Other:\n")[1].split() == ["-h,", "--help", "Show", "this", "message", "and", "exit."]


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["--backend", "docker"], {}, ["--backend", "EXECUTOR_BACKEND", "'local', 'kubernetes'"]),
        (["--port", "99999"], {}, ["--port", "0<=x<=65535"]),
        ([], {"EXECUTOR_PORT": "tcp://10.0.0.1:80"}, ["EXECUTOR_PORT", "not a valid whole number"]),
        (["--keep-seconds", "nan"], {}, ["--keep-seconds", "not a finite number"]),
        (["--max-queue", "-1"], {}, ["--max-queue", "x>=0"]),
        (["--prot", "1"], {}, ["--prot", "--port"]),
    ],
)
def test_a_bad_setting_is_named(shell: Any, arguments: list[str], variables: dict[str, str], words: list[str]) -> None:
    """Exit code 2, and the flag, its variable and what is allowed in the sentence."""
    result = shell.run("serve", *arguments, **variables)
    assert result.returncode == 2
    assert [word for word in words if word not in result.stderr.decode()] == []


def test_serve_tells_what_the_operator_has_to_change(shell: Any, tmp_path: Path) -> None:
    """Listening beyond loopback without a key is refused with the fix, in one sentence."""
    result = shell.run("serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path))  # noqa: S104 - refused
    assert result.returncode == 2
    assert result.stderr.startswith(b"executor-api: ")
    assert b"EXECUTOR_API_KEY" in result.stderr
    assert result.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "exactly one of CODE, --file, --command"),
        (["x", "-c", "y"], "exactly one of CODE, --file, --command"),
        (["--file", "/nonexistent"], "/nonexistent can't be read: No such file"),
        (["x", "-e", "novalue"], "'novalue' must be written NAME=VALUE"),
        (["x", "-t", "soon"], "--timeout"),
    ],
)
def test_wrong_usage_of_run(shell: Any, arguments: list[str], words: str) -> None:
    """Exit code 2 and what to write instead; nothing is run."""
    result = shell.run("run", *arguments)
    assert result.returncode == 2
    assert words in result.stderr.decode()


def test_the_committed_settings_page_is_current(shell: Any) -> None:
    """docs/settings.md is what `executor-api settings` prints."""
    assert shell.run("settings").stdout.decode() == (REPOSITORY / "docs" / "settings.md").read_text()


def test_templates_schema_and_check(shell: Any, tmp_path: Path) -> None:
    """The schema is printed; a file is right, or each mistake is a line and the exit code 2."""
    schema = shell.run("templates", "schema")
    assert schema.stdout.decode() == (REPOSITORY / "docs" / "templates.schema.json").read_text()
    path = tmp_path / "t.yaml"
    path.write_text("templates:\n- name: gpu\n")
    assert shell.run("templates", "check", str(path)).stdout.decode() == f"{path} is right: default, gpu\n"
    path.write_text("templates:\n- nam: gpu\n")
    wrong = shell.run("templates", "check", str(path))
    assert wrong.returncode == 2
    assert [line.partition(": t")[0] for line in wrong.stderr.decode().splitlines()] == [
        f"executor-api: {path}:2:3",
        f"executor-api: {path}:2:3",
    ]
