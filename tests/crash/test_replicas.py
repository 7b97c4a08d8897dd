"""Two services share a database, and one of them dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.postgres import PostgresServer, postgres_server
from support.service import Service


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


def test_a_killed_service_is_replaced_by_the_other(tmp_path: Path, postgres: PostgresServer) -> None:
    """Its calls that ran settle as lost with their output, those that waited run, and all is asked of the other."""
    environ = {"EXECUTOR_STORE_URL": postgres.database()}
    script = {"command": "echo before; sleep 300"}
    with Service(tmp_path / "two", environ=environ) as two:
        with Service(tmp_path / "one", "--max-concurrency", "1", environ=environ) as one:
            runs = one.submit(script)
            two.wait_output(runs, "before")
            waits = one.submit({"command": "echo waited"})
            cancelled = one.submit(script)
            two.client.delete(f"/executions/{cancelled}")
            assert two.wait(cancelled)["reason"] == "cancelled"
            one.kill()
        lost, ran = two.wait(runs), two.wait(waits)
        assert (lost["status"], lost["reason"], lost["stdout"]) == ("failed", "sandbox_lost", "before\n")
        assert (ran["status"], ran["stdout"]) == ("succeeded", "waited\n")


def test_a_second_service_on_a_file_is_told_of_the_database(tmp_path: Path) -> None:
    """One sentence names the way out."""
    with Service(tmp_path) as _first, pytest.raises(AssertionError, match="--store-url"), Service(tmp_path):
        pass
