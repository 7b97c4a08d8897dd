"""The status page of one of two services that share a database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import expect
from support.browser import Browse
from support.cluster import IMAGE, Namespace, namespace
from support.machine import eventually
from support.postgres import PostgresServer, postgres_server
from support.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def space() -> Iterator[Namespace]:
    with namespace() as found:
        yield found


async def test_calls_that_another_replica_runs(tmp_path: Path, browse: Browse, postgres: PostgresServer) -> None:
    """They are listed, their log streams and they can be cancelled here; the hour is this replica's alone."""
    environ = {"EXECUTOR_STORE_URL": postgres.database()}
    with (
        Service(tmp_path / "one", environ=environ) as one,
        Service(tmp_path / "two", "--shutdown-seconds", "0.2", environ=environ) as two,
    ):
        page = await browse(one.url)
        await expect(page.get_by_text("No call runs or waits.")).to_be_visible()
        ended = two.execute({"command": "exit 3"})["id"]
        runs = two.submit({"command": "echo out; echo wrong >&2; sleep 600"})
        await expect(page.locator("#live tbody tr")).to_contain_text(["running"])
        await expect(page.locator("#ended tbody tr", has_text=ended)).to_contain_text("exit_code")
        await page.get_by_role("link", name=runs).click()
        log = page.get_by_role("log")
        await expect(log.locator(".line.stdout")).to_have_text(["out out"])
        await expect(log.locator(".line.stderr")).to_have_text(["err wrong"])
        await expect(page.locator("#call-summary")).to_contain_text("It has run for")
        page.on("dialog", lambda dialog: dialog.accept())
        await page.get_by_role("button", name="Cancel this call").click()
        await expect(log).to_contain_text("cancelled (cancelled)")
        await expect(page.locator("#ended tbody tr", has_text=runs)).to_contain_text("cancelled")
        assert two.get(runs)["status"] == "cancelled"

        await expect(page.locator("#calls")).to_contain_text("Of your tenant, on all replicas.")
        await expect(page.locator("#hour-scope")).to_contain_text("other replicas have their own")
        tiles = page.locator("#tiles div", has_text="Ended").locator("dd")
        await expect(tiles).to_have_text("0")
        one.execute({"command": "true"})
        await expect(tiles).to_have_text("1")
        counted = {"exit_code": 1, "cancelled": 1}
        eventually(lambda: two.client.get("/status").json()["hour"]["endings"] == counted)


@pytest.mark.cluster
async def test_a_pool_that_another_replica_takes_from(
    tmp_path: Path, browse: Browse, postgres: PostgresServer, space: Namespace
) -> None:
    """What waits is the same at both, whichever keeps it; use and claims are those of the one that answers."""
    environ = {"EXECUTOR_STORE_URL": postgres.database(), "EXECUTOR_MASTER_KEY": "0" * 64}
    flags = ("--backend", "kubernetes", "--namespace", space.name, "--image", IMAGE, "--pool", "1")
    with (
        Service(tmp_path / "one", *flags, environ=environ) as one,
        Service(tmp_path / "two", *flags, environ=environ) as two,
    ):
        page = await browse(one.url)
        place = page.locator("#pool")
        await expect(place.get_by_role("heading", level=3)).to_have_text("default: 1 of 1 ready")
        await expect(place).to_contain_text(
            "Shared by all replicas; those in use, and claims, are of the one that answered."
        )
        runs = two.submit({"command": "echo out; sleep 600"})
        await expect(page.locator("#live tbody tr", has_text=runs)).to_contain_text("running")
        await expect(place).to_contain_text(re.compile("1 of 1 .* wait ready; 0 are being made, 0 are in use"))
        await expect(place).not_to_contain_text("claims of this process")
        (pool,) = two.client.get("/pool").json()["pools"]
        assert (pool["taken"], pool["hits"] + pool["waits"]) == (1, 1)
        two.client.delete(f"/executions/{runs}")
        await expect(page.locator("#ended tbody tr", has_text=runs)).to_contain_text("cancelled")
