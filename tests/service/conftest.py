"""A fresh house for every test, closed after it; one PostgreSQL server for all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.house import House
from support.postgres import PostgresServer, postgres_server
from support.scripted import Script, ScriptedBackend


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    (tmp_path / "data").mkdir()
    made = House(ScriptedBackend(lambda _id: Script()), tmp_path / "data")
    yield made
    for service in made.services:
        await service.stop(0)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server
