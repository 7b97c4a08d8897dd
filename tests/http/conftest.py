"""A service for a test, with settings of its choice."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.http_service import Service, ServiceMaker, running

from executor_api.settings import Settings


@pytest.fixture
async def make_service(tmp_path: Path) -> AsyncIterator[ServiceMaker]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(connections: int = 1000, **settings: Any) -> Service:
            return await stack.enter_async_context(running(tmp_path, Settings(**settings), connections))

        yield make


@pytest.fixture
async def service(make_service: ServiceMaker) -> Service:
    return await make_service()
