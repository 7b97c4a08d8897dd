"""A real browser for tests: Chromium as the system has it, headless."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect

PATIENCE_MS = 45_000
"""For what must come to be; a busy machine is slow."""
_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_EXPECTED = "Failed to load resource"
"""Chromium says so of each answer that is no 200; the page handles those."""

expect.set_options(timeout=PATIENCE_MS)

Browse = Callable[..., Awaitable[Page]]
"""Opens a page at a URL; options are those of the context."""


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run it. Skips the test where there is none."""
    if _CHROMIUM is None:
        pytest.skip("there is no Chromium here; on Debian: apt-get install chromium")
    async with async_playwright() as playwright, await playwright.chromium.launch(executable_path=_CHROMIUM) as browser:
        yield browser


@contextlib.asynccontextmanager
async def browsing(browser: Browser) -> AsyncIterator[Browse]:
    """Pages, each in a context of its own. Whatever is done with them, they ask one host only and err nowhere."""
    hosts: set[str] = set()
    wrong: list[str] = []
    contexts: list[BrowserContext] = []

    async def browse(url: str, **options: Any) -> Page:
        contexts.append(await browser.new_context(**options))
        contexts[-1].set_default_timeout(PATIENCE_MS)
        page = await contexts[-1].new_page()
        page.on("console", lambda message: wrong.extend(_errors(message)))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        await page.goto(url)
        return page

    try:
        yield browse
    finally:
        for context in contexts:
            await context.close()
    assert not wrong, wrong
    assert len(hosts - {""}) <= 1, hosts


def _errors(message: ConsoleMessage) -> list[str]:
    """What breaks the content security policy is said in the console, too."""
    if message.type in ("error", "warning") and not message.text.startswith(_EXPECTED):
        return [message.text]
    return []
