"""Calls on the status page: those that run, the log of one, its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Request, Route, expect
from support.browser import Browse
from support.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")

TALKS = "echo one; echo two >&2; printf three; sleep 600"
HOSTILE = (
    """<script>window.hacked = 1</script><img src=x onerror="window.hacked = 2"><a href="javascript:alert(1)">x</a>"""
)
FLOOD = f"""
import sys
print({HOSTILE!r})
print("\\x1b[31mred\\x1b[0m \\u202emirrored")
for number in range(60000):
    print("x" * 80, number)
print("y" * 1_000_000)
sys.stderr.buffer.write(b"\\xff\\xfe\\n")
raise ValueError({HOSTILE!r})
"""


async def test_a_call_that_runs_is_seen_and_heard(tmp_path: Path, browse: Browse) -> None:
    """It comes into the list by itself, its log streams, and cancelling it there ends it with all that it printed."""
    with Service(tmp_path) as service:
        page = await browse(service.url)
        await expect(page.get_by_text("No call runs or waits.")).to_be_visible()
        call = service.submit({"command": TALKS, "labels": {"agent": "a1"}})
        row = page.locator("#live tbody tr")
        await expect(row).to_contain_text("default · agent=a1")
        await page.get_by_role("link", name=call).click()
        await expect(page.get_by_role("heading", name=f"Call {call}")).to_be_focused()
        log = page.get_by_role("log")
        for kind, name, text in (("stdout", "out", "one"), ("stderr", "err", "two"), ("stdout", "out", "three")):
            await expect(log.locator(f".line.{kind}", has_text=text)).to_have_text(f"{name} {text}")
        await expect(page.locator("#call-summary")).to_contain_text("It has run for")
        page.on("dialog", lambda dialog: dialog.accept())
        await page.get_by_role("button", name="Cancel this call").click()
        await expect(page.locator("#call-summary")).to_contain_text("It was cancelled")
        await expect(log).to_contain_text("cancelled (cancelled)")
        await expect(page.locator("#ended tbody tr")).to_contain_text("cancelled")
        await expect(page.get_by_role("button", name="Cancel this call")).to_be_hidden()
        assert service.get(call)["stdout"] == "one\nthree"


async def test_what_calls_print_does_no_harm(tmp_path: Path, browse: Browse) -> None:
    """Markup, control characters and 5 MB: shown as text, the last lines of it, and the page stays quick to answer."""
    with Service(tmp_path) as service:
        call = service.execute({"code": FLOOD})
        assert call["reason"] == "exception"
        page = await browse(f"{service.url}/#call/{call['id']}")
        lines = page.locator("#log .line")
        await expect(page.locator("#log")).to_contain_text("failed (exception)")
        await expect(lines.filter(has_text="window.hacked").last).to_contain_text(HOSTILE)
        for place in ("#call-summary", "#call-facts"):
            await expect(page.locator(place)).to_contain_text(HOSTILE)
        assert await lines.count() <= 1000
        await expect(page.locator("#log-note")).to_contain_text("earlier lines are not shown")
        assert max(await lines.evaluate_all("lines => lines.map(line => line.textContent.length)")) < 2200
        assert await page.evaluate("window.hacked") is None
        assert await page.locator("#call :is(script, img, #log a), #calls :is(script, img)").count() == 0
        await page.get_by_role("link", name="Close").click()
        await expect(page.locator("#call")).to_be_hidden()


async def test_control_characters_are_signs(tmp_path: Path, browse: Browse) -> None:
    """What a terminal would obey is seen, bytes that are no text are marked, and no line turns others around."""
    with Service(tmp_path) as service:
        code = r"""
import sys
print("\x1b[31mred\x1b[0m\x07 \u202emirrored")
sys.stdout.buffer.write(b"\xff\xfe\n")
"""
        call = service.execute({"code": code})
        page = await browse(f"{service.url}/#call/{call['id']}")
        texts = page.locator("#log .stdout .text")
        await expect(texts.first).to_have_text("␛[31mred␛[0m␇ \u202emirrored")
        await expect(texts.last).to_have_text("\ufffd\ufffd")
        assert await texts.first.evaluate("text => getComputedStyle(text).unicodeBidi") == "isolate"


async def test_a_silence_that_is_over(tmp_path: Path, browse: Browse) -> None:
    """That the service does not answer is said at the call, and no longer once it has explained the call again."""
    with Service(tmp_path, "--shutdown-seconds", "0.2") as service:
        call = service.submit({"command": "echo started; sleep 600"})
        page = await browse("about:blank")
        await page.route("**/explain", lambda route: route.abort())
        await page.goto(f"{service.url}/#call/{call}")
        await expect(page.locator("#call-notice")).to_contain_text("does not answer")
        await page.unroute("**/explain")
        await expect(page.locator("#call-summary")).to_contain_text("It has run for")
        await expect(page.locator("#call-notice")).to_be_empty()


async def test_a_call_that_is_not_there(tmp_path: Path, browse: Browse) -> None:
    """An old link says so, and the rest of the page works."""
    with Service(tmp_path) as service:
        page = await browse(f"{service.url}/#call/01JD0000000000000000000001")
        await expect(page.locator("#call-notice")).to_contain_text("There is no execution")
        await expect(page.get_by_text("No call has ended yet.")).to_be_visible()


async def test_behind_a_path(tmp_path: Path, browse: Browse) -> None:
    """A proxy may put a path before it: all that the page asks for is below that."""
    with Service(tmp_path) as service:
        call = service.execute({"command": "echo through"})["id"]
        page = await browse("about:blank")
        asked: list[str] = []

        async def forward(route: Route, request: Request) -> None:
            asked.append(request.url)
            await route.continue_(url=request.url.replace("/team/executor/", "/"))

        await page.context.route("**/*", forward)
        await page.goto(f"{service.url}/team/executor/")
        await page.get_by_role("link", name=call).click()
        await expect(page.get_by_role("log")).to_contain_text("through")
        await expect(page.locator("#tiles")).to_contain_text("Ended")
        assert all("/team/executor/" in url for url in asked)
