"""Requests made from the OpenAPI document, right and wrong: nothing breaks, and answers are as the document says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.served import served

from executor_api.settings import Settings

CASES = int(os.environ.get("EXECUTOR_FUZZ_CASES", "200"))
SEED = os.environ.get("EXECUTOR_FUZZ_SEED", "1")
SHARE = 10
"""One in so many cases is made at random for each operation; the others are at bounds, or follow from answers."""
EXCLUDED = {
    "positive_data_acceptance": "the document can't say all: no path lies below another, a cursor must be ours",
    "use_after_free": "DELETE cancels an execution, whose record stays",
}


@pytest.mark.timeout(3600)
def test_every_answer_is_as_the_document_says(tmp_path: Path) -> None:
    """No 500; status, media type, headers and body are described; what the document forbids is refused."""
    with served(tmp_path, Settings(sync_wait_seconds=1)) as url:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
            *("--exclude-checks", ",".join(EXCLUDED), "--max-examples", str(CASES // SHARE), "--seed", SEED),
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stderr
    cases = re.search(r"(\d+) generated", done.stdout)
    assert cases is not None
    assert int(cases[1]) >= CASES
