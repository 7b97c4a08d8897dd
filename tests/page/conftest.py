"""The status page in a browser, which the tests of a module share, and so the event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser
from support.browser import Browse, browsing, chromium


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def browse(browser: Browser) -> AsyncIterator[Browse]:
    async with browsing(browser) as browse:
        yield browse
