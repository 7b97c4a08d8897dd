"""The status page of a service that asks who calls."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from playwright.async_api import Page, expect
from support.browser import Browse
from support.service import Service

from executor_api.domain.api_key import ApiKey, hash_of, key_text
from executor_api.domain.caller import Scope
from executor_api.http.auth.key_file import edit_keys

pytestmark = pytest.mark.asyncio(loop_scope="session")


def add_key(path: Path, *scopes: Scope) -> str:
    key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    key = ApiKey(id=key_id, sha256=hash_of(secret), tenant="blue", scopes=scopes)
    edit_keys(path, lambda keys: [*keys, key])
    return key_text(key_id, secret)


async def enter(page: Page, key: str) -> None:
    await page.get_by_label("API key or token").fill(key)
    await page.get_by_role("button", name="Show the status").click()


async def test_the_page_asks_for_a_key_and_says_why_it_is_refused(tmp_path: Path, browse: Browse) -> None:
    """Nothing is shown before; a wrong one is refused in words; the right one opens, for this tab until forgotten."""
    with Service(tmp_path, "--api-key", "right") as service:
        page = await browse("about:blank")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url.removeprefix(service.url)))
        await page.goto(service.url)
        field = page.get_by_label("API key or token")
        await expect(field).to_be_focused()
        await expect(field).to_have_attribute("type", "password")
        await expect(page.locator("#board")).to_be_hidden()
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await page.wait_for_load_state("networkidle")
        assert sum("executions" in path for path in asked) == 1
        assert not {"/pool", "/status"} & set(asked)
        await enter(page, "wröng")
        await expect(page.get_by_role("alert").first).to_contain_text("ASCII")
        await enter(page, "wrong")
        await expect(page.locator("#key-note")).to_contain_text("That one is refused: this service wants an API key")
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await expect(page.locator("#key-note")).to_contain_text("That one is refused")
        await enter(page, "right")
        await expect(page.get_by_text("No call has ended yet.")).to_be_visible()
        await expect(page.locator("#tiles")).to_contain_text("Running")
        await page.reload()
        await expect(page.locator("#board")).to_be_visible()
        assert await page.evaluate("[document.cookie, localStorage.length]") == ["", 0]
        await page.get_by_role("button", name="Forget the key").click()
        await expect(field).to_be_focused()
        assert await page.evaluate("sessionStorage.length") == 0


async def test_a_key_that_is_revoked_meanwhile(tmp_path: Path, browse: Browse) -> None:
    """The page shows nothing any more and asks for another."""
    keys = tmp_path / "keys.yaml"
    key = add_key(keys, Scope.READ)
    with Service(tmp_path, "--api-keys", str(keys)) as service:
        page = await browse(service.url)
        await enter(page, key)
        await expect(page.locator("#board")).to_be_visible()
        edit_keys(keys, lambda _: [])
        await expect(page.get_by_label("API key or token")).to_be_visible()
        await expect(page.locator("#board")).to_be_hidden()


async def test_what_a_key_may_not_see_is_said_there(tmp_path: Path, browse: Browse) -> None:
    """Without admin the hour is missing, without read the calls and pools are; it is asked for once, the rest works."""
    keys = tmp_path / "keys.yaml"
    reader, admin = add_key(keys, Scope.READ), add_key(keys, Scope.ADMIN)
    with Service(tmp_path, "--api-keys", str(keys)) as service:
        page = await browse(service.url)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url.removeprefix(service.url)))
        await enter(page, reader)
        await expect(page.locator("#hour .notice")).to_contain_text("Not for this key: this needs the scope admin")
        await expect(page.get_by_text("No call has ended yet.")).to_be_visible()
        await expect(page.locator("#now")).to_be_hidden()
        async with page.expect_request("**/pool"), page.expect_request("**/readyz"):
            pass
        assert asked.count("/status") == 1
        await page.get_by_role("button", name="Forget the key").click()
        await enter(page, admin)
        for place in ("#calls", "#pool"):
            await expect(page.locator(f"{place} .notice")).to_contain_text("this needs the scope read")
        await expect(page.locator("#tiles")).to_contain_text("Running")
