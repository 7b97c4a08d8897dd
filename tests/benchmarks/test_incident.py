"""The incident, small: what the monitor counts, what triage says, and what is left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "incident.py"


@pytest.mark.timeout(300)
def test_triage_leads_out_of_the_incident(tmp_path: Path) -> None:
    """Monitor and psutil agree; what triage says first, typed one by one, cleans up; executor-api leaves nothing."""
    command = [sys.executable, str(BENCHMARK), "--scale", "60", "--no-alerts", "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert all(line in done.stdout for line in done.stderr.splitlines())  # triage says what it does on both
    samples = next(tmp_path.glob("*.csv")).read_text().splitlines()
    assert samples[0].startswith("seconds,stage,by,processes,zombies,d_state,orphans")
