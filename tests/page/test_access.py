"""The status page for everybody: by keyboard, on a phone, in the dark, by a screen reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect
from support.browser import Browse
from support.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
FOCUSED = """() => {
    const node = document.activeElement;
    const style = getComputedStyle(node);
    return {name: node.id || node.textContent.trim(), outline: node === document.body || style.outlineStyle};
}"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path, "--shutdown-seconds", "0.2") as service:
        for request in (
            {"command": "echo fine", "labels": {"agent": "a" + "x" * 60 + "z"}},
            {"command": "echo wrong >&2; exit 3"},
            {"command": f"echo {'long' * 200}"},
        ):
            service.execute(request)
        service.wait_output(service.submit({"command": "echo started; sleep 600"}), "started")
        yield service


async def opened(page: Page) -> None:
    """Open the call that runs."""
    await page.locator("#live tbody a").click()
    await expect(page.get_by_role("log")).to_contain_text("started")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("options", [{}, PHONE], ids=["desk", "phone"])
async def test_no_barrier_is_found(service: Service, browse: Browse, options: dict[str, Any], scheme: str) -> None:
    """axe-core finds none: names, labels, headings, landmarks, contrast, tables, what the keyboard can't reach."""
    page = await browse(service.url, color_scheme=scheme, **options)
    await opened(page)
    await page.get_by_text("Each minute as a table").click()
    found = await Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [390, 320])
async def test_a_phone_needs_no_sideways_scrolling(service: Service, browse: Browse, width: int) -> None:
    """Long names, ids and lines break; with a call open, and the table of minutes too."""
    page = await browse(service.url, **{**PHONE, "viewport": {"width": width, "height": 700}})
    await opened(page)
    await page.get_by_text("Each minute as a table").click()
    assert await page.evaluate("document.scrollingElement.scrollWidth") <= width
    over = await page.evaluate(
        """width => [...document.querySelectorAll("body *:not(.scroll *):not(#log *)")]
            .filter(node => node.getBoundingClientRect().right > width + 1).map(node => node.outerHTML.slice(0, 80))""",
        width,
    )
    assert over == []


async def test_the_keyboard_reaches_everything(service: Service, browse: Browse) -> None:
    """Every link, button and scrolling region in turn, each with a ring; a call opens, closes, and focus comes back."""
    page = await browse(service.url)
    link = page.locator("#live tbody a")
    await expect(link).to_be_visible()
    call = await link.inner_text()
    await link.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name=f"Call {call}")).to_be_focused()
    wanted = set(
        await page.locator(":is(a, button, summary, select, [tabindex='0']):visible").evaluate_all(
            "nodes => nodes.map(node => node.id || node.textContent.trim())"
        )
    )
    await page.locator("body").evaluate("body => { document.activeElement.blur(); body.scrollIntoView() }")
    seen: dict[str, str] = {}
    for _ in range(3 * len(wanted)):
        await page.keyboard.press("Tab")
        now = await page.evaluate(FOCUSED)
        seen[now["name"]] = now["outline"]
    assert wanted <= set(seen)
    assert {seen[name] for name in wanted} <= {"solid", "auto"}
    await page.get_by_role("link", name="Close").focus()
    await page.keyboard.press("Enter")
    await expect(link).to_be_focused()


async def test_asking_again_moves_nothing(service: Service, browse: Browse) -> None:
    """New rounds keep the focus, an open table of minutes and the log where they were, and say nothing aloud."""
    page = await browse(service.url)
    await opened(page)
    await page.get_by_text("Each minute as a table").click()
    link = page.locator("#ended tbody a").last
    await link.focus()
    said = await page.locator("[role=status], [role=alert]").all_inner_texts()
    call = service.execute({"command": "true"})["id"]
    await expect(page.locator("#ended tbody a").first).to_have_text(call)
    await expect(link).to_be_focused()
    await expect(page.locator("#minutes")).to_be_visible()
    assert await page.locator("[role=status], [role=alert]").all_inner_texts() == said
