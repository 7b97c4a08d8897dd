"""The fake cluster as a fixture."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubernetes_backend.world import World

_NUMBERS = itertools.count(2 + 250 * secrets.randbelow(200))  # others may run these tests on this machine


def next_address() -> str:
    """A loopback address for each pod: runners all listen on the same port."""
    number = next(_NUMBERS)
    return f"127.77.{number // 250}.{number % 250 + 1}"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    found = World(tmp_path, next_address)
    await found.api.start()
    try:
        yield found
    finally:
        await found.close()
