"""Clients that mean no good, against the real service: whoever means well is answered all the same."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.service import Service

ATTACKERS = Path(__file__).parents[2] / "benchmarks" / "attackers.py"


@pytest.fixture
def service(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    """One that has so many descriptors when it starts, and may let itself have so many."""
    service = Service(tmp_path)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (min(wanted, most) for wanted in request.param)
    resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (soft, hard))  # while it loads
    with service:
        yield service


@pytest.mark.parametrize("service", [(600, 600)], indirect=True, ids=["no more to be had"])
def test_who_fills_its_own_share_of_connections_is_told_so(service: Service) -> None:
    """Where descriptors are few, half bodies of one tenant take its share: it gets 429 or an answer, nothing else."""
    command = [sys.executable, str(ATTACKERS), "half-bodies", service.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as attackers:
        assert attackers.stdout is not None
        assert "connections are open" in attackers.stdout.readline()
        try:
            answers = [service.client.post("/execute", json={"command": "echo hello"}) for _ in range(20)]
        finally:
            attackers.terminate()
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 429)
    service.wait_ready()


@pytest.mark.parametrize(
    ("service", "attack"),
    [
        *(((1024, 20_000), attack) for attack in ("idle", "slow-heads", "huge-heads", "half-bodies")),
        *(((600, 600), attack) for attack in ("idle", "slow-heads", "huge-heads")),
    ],
    indirect=["service"],
)
def test_good_calls_are_answered_beside_bad_clients(service: Service, attack: str) -> None:
    """Thousands of connections that say little or nothing, or far too much, cost no good call its answer."""
    command = [sys.executable, str(ATTACKERS), attack, service.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attackers:
        assert attackers.stdout is not None
        assert "connections are open" in attackers.stdout.readline()
        try:
            answers = [service.execute({"command": "echo hello"}) for _ in range(20)]
        finally:
            attackers.terminate()
    assert [answer["stdout"] for answer in answers] == ["hello\n"] * 20
    service.wait_ready()
