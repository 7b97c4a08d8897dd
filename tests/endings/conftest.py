"""One service per backend, and the table of what it reported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.cluster import IMAGE, Namespace, namespace
from support.service import Service

from endings.rows import TEMPLATES

_LINES: dict[str, dict[str, str]] = {}


@dataclass
class Table:
    """Collects one backend's column."""

    backend: str

    def add(self, row: str, status: str, reason: str | None) -> None:
        """Note what was reported."""
        _LINES.setdefault(row, {})[self.backend] = reason or status


@pytest.fixture(scope="session")
def templates_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("templates") / "templates.yaml"
    path.write_text(TEMPLATES)
    return path


@pytest.fixture(scope="session")
def local_service(tmp_path_factory: pytest.TempPathFactory, templates_file: Path) -> Iterator[Service]:
    flags = ("--templates", str(templates_file), "--max-concurrency", "4")
    with Service(tmp_path_factory.mktemp("local"), *flags) as service:
        yield service


@pytest.fixture(scope="session")
def cluster_namespace() -> Iterator[Namespace]:
    with namespace() as found:
        yield found


@pytest.fixture(scope="session")
def cluster_service(
    tmp_path_factory: pytest.TempPathFactory, templates_file: Path, cluster_namespace: Namespace
) -> Iterator[Service]:
    flags = ("--backend", "kubernetes", "--namespace", cluster_namespace.name, "--image", IMAGE)
    with Service(tmp_path_factory.mktemp("cluster"), *flags, "--templates", str(templates_file)) as service:
        yield service


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the matrix."""
    if not _LINES:
        return
    width = max(map(len, _LINES))
    terminalreporter.section("endings")
    terminalreporter.write_line(f"{'call':{width}}  {'local':16}  kubernetes")
    for row, found in _LINES.items():
        terminalreporter.write_line(f"{row:{width}}  {found.get('local', '-'):16}  {found.get('kubernetes', '-')}")
