"""`executor-api doctor`: a line for each check, an exit code, and JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_this_machine_can_run_calls(shell: Any) -> None:
    """Each check is a line that begins with its verdict, without colours in a pipe, and `true` ran."""
    result = shell.run("doctor")
    lines = result.stdout.decode().splitlines()
    assert result.returncode == 0, result.stdout
    assert {line.split()[0] for line in lines} <= {"ok", "warn"}
    assert "ok    call: `true` ran in a sandbox" in lines
    assert b"\033" not in result.stdout


def test_json(shell: Any) -> None:
    """The same for programs."""
    found = json.loads(shell.run("doctor", "--json").stdout)
    assert [item["check"] for item in found if item["verdict"] == "fail"] == []
    assert {"templates", "disk", "isolation", "call"} <= {item["check"] for item in found}


def test_what_fails_is_an_exit_code(shell: Any, tmp_path: Path) -> None:
    """Flags are those of `serve`, and so are their variables; a cluster that is not there fails with the fix."""
    missing = str(tmp_path / "kubeconfig")
    result = shell.run("doctor", "--kubeconfig", missing, EXECUTOR_BACKEND="kubernetes")
    assert result.returncode == 1
    (line,) = (line for line in result.stdout.decode().splitlines() if line.startswith("fail"))
    assert line.startswith(f"fail  credentials: kubeconfig {missing} does not exist; name one with --kubeconfig")


def test_mistakes_in_templates_do_not_end_it(shell: Any, tmp_path: Path) -> None:
    """They are a finding, and what can be examined without the file is."""
    path = tmp_path / "templates.yaml"
    path.write_text("templates: [{name: default, imag: x}]")
    result = shell.run("doctor", "--templates", str(path), "--json")
    found = {item["check"]: item for item in json.loads(result.stdout)}
    assert result.returncode == 1
    assert "imag" in found["templates"]["text"]
    assert found["call"]["verdict"] == "ok"


def test_help_loads_nothing_heavy(shell: Any) -> None:
    """The help has the flags that matter and says what will be started."""
    result = shell.run("doctor", "--help", PYTHONPROFILEIMPORTTIME="1")
    text = " ".join(result.stdout.decode().split())
    assert "starts one sandbox of each image" in text
    for flag in ("--backend", "--namespace", "--owner-lease", "--image", "--pool", "--json"):
        assert flag in text
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.decode().splitlines()}
    assert not imported & {"asyncio", "fastapi", "pydantic", "structlog"}
