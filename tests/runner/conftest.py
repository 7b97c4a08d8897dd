"""A runner in pod mode for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pod import Pod, pod


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Pod]:
    with pod(tmp_path / "pod") as found:
        yield found
        assert "Traceback" not in found.errors
