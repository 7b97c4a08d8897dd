"""The runner needs nothing that an image would have to install."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import executor_runner

FOLDER = Path(executor_runner.__file__).parent


def test_runner_imports_the_standard_library_only() -> None:
    """Every import of every module of the runner is Python's own or the runner's, wherever it stands."""
    modules = list(FOLDER.rglob("*.py"))
    assert len(modules) > 20
    allowed = sys.stdlib_module_names | {"executor_runner"}
    foreign = {
        f"{path.name}: {name}"
        for path in modules
        for node in ast.walk(ast.parse(path.read_text()))
        for name in _imported(node)
        if name.partition(".")[0] not in allowed
    }
    assert not foreign


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return []
