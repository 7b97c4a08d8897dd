"""The service tells of its own processes."""

from __future__ import annotations

import time
from pathlib import Path

from support.service import Service


def test_the_service_exports_its_own_processes(tmp_path: Path) -> None:
    """The figures of a host's monitor are there for the service and what it started, without the machine's."""
    with Service(tmp_path) as service:
        deadline = time.monotonic() + 60
        while "agent_zombie_processes 0.0" not in (text := service.client.get("/metrics").text):
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("agent_"))
    assert 1 <= float(samples["agent_processes"]) < 50  # at its start it tries what sandboxes can have
    assert float(samples["agent_threads"]) > 1
    assert not {"agent_pids_limit", "agent_open_descriptors", "agent_orphan_processes"} & set(samples)
