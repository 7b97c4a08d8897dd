"""Executors with and without namespaces."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support.machine import Marked

from executor_api import Executor
from executor_api.backends.local.backend import LocalBackend
from executor_api.domain.template import Language, Template

TEMPLATES = {
    "default": Template(name="default"),
    "open": Template(name="open", network="open"),
    "few": Template(name="few", max_processes=40, grace_seconds=0.2),
    "sed": Template(name="sed", languages={"sed": Language(argv=("sed", "-nf", "{file}"), suffix=".sed")}),
}


@pytest.fixture(scope="session", params=[True, False], ids=["namespaces", "no-namespaces"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Runs calls in whatever the kernel permits, and in what remains where it permits nothing."""
    with Executor(LocalBackend(os.environ, namespaces=request.param), TEMPLATES) as found:
        found.start()
        yield found


@pytest.fixture
def marked() -> Marked:
    return Marked()
