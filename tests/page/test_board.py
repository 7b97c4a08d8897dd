"""The figures of the status page: the last hour, pools, limits, and what it says when nobody answers."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, Route, expect
from support.browser import Browse
from support.http_service import running
from support.pool_status import pool
from support.service import Service

from executor_api.settings import Settings

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_last_hour(tmp_path: Path, browse: Browse) -> None:
    """Endings and times in figures, charts with what they show as text, and each minute in a table."""
    with Service(tmp_path) as service:
        for number in range(4):
            service.execute({"command": f"exit {number // 3}"})
        page = await browse(service.url)
        tiles = page.locator("#tiles")
        await expect(tiles.locator("div", has_text="Ended").locator("dd")).to_have_text("4")
        await expect(tiles.locator("div", has_text="Succeeded").locator("dd")).to_have_text("75 %")
        await expect(page.locator("#endings tbody tr").first).to_have_text("succeeded375 %")
        await expect(page.locator("#endings tbody tr").last).to_have_text("exit_code125 %")
        chart = page.get_by_role("img", name="4 calls ended, 1 of them without success")
        await expect(chart).to_be_visible()
        assert await chart.locator("rect.good").count() >= 1
        assert await chart.locator("rect.bad").count() == 1
        await page.get_by_text("Each minute as a table").click()
        cells = await page.locator("#minutes tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.cells].slice(1, 3).map(cell => Number(cell.textContent)))"
        )
        assert [sum(column) for column in zip(*cells, strict=True)] == [3, 1]
        await expect(page.locator("#own-sentence")).to_contain_text("process")
        await expect(page.locator("#hour-scope")).to_contain_text("other replicas have their own")


async def test_an_hour_across_midnight(tmp_path: Path, browse: Browse) -> None:
    """The charts' times are short enough to stand side by side, whether or not they are of today."""
    hour = datetime.now(UTC).hour
    zone = f"Etc/GMT+{hour}" if hour <= 12 else f"Etc/GMT-{24 - hour}"  # where it is past midnight; + is behind UTC
    async with running(tmp_path, Settings()) as service:
        page = await browse(str(service.client.base_url), timezone_id=zone)
        times = page.locator("#load-chart text[text-anchor]").filter(has_text=":")
        await expect(times).to_have_text([re.compile(r"^\d\d:\d\d$")] * 5)


async def test_pools_and_their_troubles(tmp_path: Path, browse: Browse) -> None:
    """Each pool with its sentences; without any the page says what that means, and with time both change."""
    async with running(tmp_path, Settings()) as service:
        page = await browse(str(service.client.base_url))
        place = page.locator("#pool")
        await expect(place).to_contain_text("There are none here.")
        service.backend.statuses = (pool(template="gpu", ready=1, problems=("quota is <b>used up</b>",)), pool())
        await expect(place.get_by_role("heading", level=3)).to_have_text(["gpu: 1 of 2 ready", "default: 2 of 2 ready"])
        await expect(place).to_contain_text("quota is <b>used up</b>")
        service.backend.problems = ("the API server does not answer; see its log",)
        await expect(page.locator("#health")).to_have_text("Not ready for calls")
        await expect(page.locator("#problems")).to_contain_text("the API server does not answer")


async def test_a_service_that_goes_away_and_comes_back(tmp_path: Path, browse: Browse) -> None:
    """The page says that nobody answers and since when, keeps what it knows, and tells of the return."""
    with Service(tmp_path) as service:
        call = service.execute({"command": "true"})["id"]
        page = await browse(service.url)
        await expect(page.get_by_role("link", name=call)).to_be_visible()
        service.kill()
        contact = page.locator("#contact")
        await expect(contact).to_contain_text("The service has not answered since")
        await expect(contact).to_contain_text("What is shown is from then.")
        await expect(page.locator("#health")).to_have_text("Does not answer")
        await expect(page.get_by_role("link", name=call)).to_be_visible()
        with Service(tmp_path, "--port", service.url.rpartition(":")[2]):
            await expect(contact).to_contain_text("The service answers again, after")
            await expect(page.locator("#health")).to_have_text("Ready for calls")
            await expect(page.get_by_role("link", name=call)).to_be_visible()


async def test_a_hidden_page_does_not_ask(tmp_path: Path, browse: Browse) -> None:
    """No request while its tab is hidden, and at once when it is seen again."""
    async with running(tmp_path, Settings()) as service:
        page = await browse("about:blank")
        await page.clock.install()
        await page.goto(str(service.client.base_url))
        await expect(page.locator("#board")).to_be_visible()
        async with page.expect_request("**/pool"):  # another round, by itself
            await page.clock.fast_forward(5_000)
        await _hide(page, hidden=True)
        await page.wait_for_load_state("networkidle")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.clock.fast_forward(60_000)
        assert asked == []
        async with page.expect_request("**/pool"):
            await _hide(page, hidden=False)


async def test_ended_calls_are_listed_again_when_one_has_ended(tmp_path: Path, browse: Browse) -> None:
    """While nothing ends, rounds leave that list alone for 15 s; what was shown stays, and a call's end renews it."""
    async with running(tmp_path, Settings()) as service:
        page = await browse("about:blank")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.clock.install()
        await page.goto(str(service.client.base_url))
        await expect(page.get_by_text("No call has ended yet.")).to_be_visible()
        await page.wait_for_load_state("networkidle")
        for beat in (4_000, 4_000, 10_000):
            async with page.expect_response("**/pool"):
                await page.clock.fast_forward(beat)
            await page.wait_for_load_state("networkidle")
            lists = sum("status=succeeded" in url for url in asked)
            assert lists == (1 if beat == 4_000 else 2)


async def test_a_failure_to_draw_does_not_stop_the_page(tmp_path: Path, browse: Browse) -> None:
    """An answer that it can't show is said, and the next one is shown; nobody has looked, so no zombies are counted."""
    async with running(tmp_path, Settings()) as service:
        page = await browse("about:blank")
        turn = 0

        async def broken_once(route: Route) -> None:
            nonlocal turn
            turn += 1
            told = await (await route.fetch()).json() | {"own": None}
            await route.fulfill(body=json.dumps(told if turn > 2 else told | {"hour": {}}))

        await page.route("**/status", broken_once)
        await page.goto(str(service.client.base_url))
        await expect(page.locator("#contact")).to_contain_text("could not show")
        await expect(page.locator("#tiles div", has_text="Zombies").locator("dd")).to_have_text("\u2013")


async def _hide(page: Page, *, hidden: bool) -> None:
    await page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


async def test_figures_of_processes_that_nobody_looks_at_any_more(tmp_path: Path, browse: Browse) -> None:
    """They are shown with their age, and as what was then; with the next look that is over."""
    with Service(tmp_path) as service:
        page = await browse("about:blank")

        async def late(route: Route) -> None:
            told = await (await route.fetch()).json()
            if told["own"]:
                told["own"]["looked_at"] = (datetime.fromisoformat(told["at"]) - timedelta(minutes=4.5)).isoformat()
            await route.fulfill(body=json.dumps(told))

        await page.route("**/status", late)
        await page.goto(service.url)
        notice = page.locator("#own-notice")
        await expect(notice).to_contain_text(
            "These figures are 4 minutes old: no look at the processes has ended since"
        )
        tiles = page.locator("#tiles dt")
        await expect(tiles.last).to_have_text("In D state, 4 minutes old")
        await expect(page.locator("#own-facts")).to_contain_text("0 then")
        found = await Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        await page.unroute("**/status")
        await expect(notice).to_be_hidden()
        await expect(tiles.last).to_have_text("In D state")
        await expect(page.locator("#own-facts")).to_contain_text("0 now")


async def test_a_replica_that_answers_no_more(tmp_path: Path, browse: Browse) -> None:
    """While another answers, the one that is shown is said to be silent and since when; in time the other is shown."""
    async with running(tmp_path, Settings()) as service:
        page = await browse("about:blank")
        name = "first"

        async def named(route: Route) -> None:
            await route.fulfill(body=json.dumps(await (await route.fetch()).json() | {"replica": name}))

        await page.clock.install()
        await page.route("**/status", named)
        await page.goto(str(service.client.base_url))
        heading, notice = page.locator("#now-heading"), page.locator("#now-notice")
        await expect(heading).to_have_text("Replica first")
        await expect(notice).to_be_hidden()
        name = "second"
        await expect(page.locator("#replicas option")).to_have_text(["first", "second"])
        await page.clock.fast_forward(40_000)
        await expect(notice).to_contain_text("This replica has not answered since")
        await expect(heading).to_have_text("Replica first")
        await page.clock.fast_forward(120_000)
        await expect(heading).to_have_text("Replica second")
        await expect(notice).to_be_hidden()


async def test_each_replica_has_its_own_hour(tmp_path: Path, browse: Browse) -> None:
    """When answers come from two by turns, figures don't jump: one is shown, and the other may be chosen."""
    async with running(tmp_path, Settings()) as service:
        page = await browse("about:blank")
        turn = 0

        async def by_turns(route: Route) -> None:
            nonlocal turn
            turn += 1
            answer = await route.fetch()
            await route.fulfill(body=json.dumps(await answer.json() | {"replica": f"r{turn % 2}", "running": turn % 2}))

        await page.route("**/status", by_turns)
        await page.goto(str(service.client.base_url))
        choice = page.get_by_label("Show replica")
        await expect(choice).to_have_value("r1")
        await expect(page.locator("#now-heading")).to_have_text("Replica r1")
        await choice.select_option("r0")
        await expect(page.locator("#now-heading")).to_have_text("Replica r0")
        await expect(page.locator("#tiles")).to_contain_text("Running now0 of")
